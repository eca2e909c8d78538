"""What comes back: `TaskResult` of a map's tasks, `JobCompletion` of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from shoal.errors import TaskException

T = TypeVar("T")


@dataclass(frozen=True)
class TaskResult(Generic[T]):
    """The outcome of one task of a map.

    Attributes:
        task_id: the item's index.
        is_success: whether the function returned.
        state: SUCCEEDED, PYTHON_EXCEPTION, NON_ZERO_RETURN_CODE, RESULT_CANNOT_BE_PICKLED,
            RESULT_CANNOT_BE_UNPICKLED, OUT_OF_MEMORY, WORKER_LOST, ...
        result: what the function returned; None is a result too. With
            RESULT_CANNOT_BE_UNPICKLED, the bytes.
        exception: where it failed, (type, message, traceback) as texts.
        attempt: 1 for the first attempt, 2 for the second, ...
        log_file_name: the run that keeps the output, as in `shoal.attach(...).logs()`.
        pod, node: where the attempt ran, as far as known.
    """

    task_id: int
    is_success: bool
    state: str
    result: T | None = None
    exception: tuple[str, str, str] | None = None
    attempt: int = 1
    log_file_name: str = ""
    pod: str = ""
    node: str = ""

    def result_or_raise(self) -> T:
        """Return the result, or raise TaskException with the remote traceback."""
        if self.is_success:
            return cast(T, self.result)
        raise TaskException(*(self.exception or (self.state, "", "")))


@dataclass(frozen=True)
class JobCompletion(Generic[T]):
    """How a command ended.

    Attributes:
        result: always None; a later version reads what the command leaves for it.
        return_code: the exit code, 0 here, since others raise CommandFailedException.
        process_state: SUCCEEDED.
        log_file_name: the run that keeps the output; "" for a command that ran without a bucket.
        public_address: "kubernetes" on a cluster, "localhost" on this machine.
    """

    result: T
    return_code: int
    process_state: str
    log_file_name: str
    public_address: str
