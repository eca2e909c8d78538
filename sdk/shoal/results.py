"""What comes back: `TaskResult` of a map's tasks, `JobCompletion` of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from shoal.errors import TaskException

if TYPE_CHECKING:
    from shoal.hosts import Host

T = TypeVar("T")


@dataclass(frozen=True)
class TaskResult(Generic[T]):
    """The outcome of one task of a map.

    Attributes:
        task_id: the item's index.
        is_success: whether the function returned.
        state: one of

            - SUCCEEDED
            - PYTHON_EXCEPTION: the function raised.
            - NON_ZERO_RETURN_CODE: its process ended (a crash, ``os._exit``, a killing signal).
            - RESULT_CANNOT_BE_PICKLED: it returned what can't travel.
            - RESULT_CANNOT_BE_UNPICKLED: what it returned can't be read on this machine.
            - OUT_OF_MEMORY: it was killed for want of memory, or failed with nearly all of it used.
            - TIMED_OUT: it took longer than task_timeout_seconds.
            - WORKER_LOST: its worker was lost (eviction, a lost node) once too often.
        result: what the function returned; None is a result too. With
            RESULT_CANNOT_BE_UNPICKLED, the bytes.
        exception: where it failed, (type, message, traceback) as texts.
        attempt: 1 for the first attempt, 2 for the second, ...
        log_file_name: names what the task printed, for `shoal.logs`.
        pod, node: where the attempt ran, as far as known.
        peak_memory: the most memory that the attempt used, in bytes, to the MiB; 0 if not known.
        cursor: where this task stands among the run's results: ``results(after=cursor)`` of the
            run's handle, on any machine, yields what comes behind it. "" outside of such a stream.
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
    peak_memory: int = 0
    cursor: str = ""

    def result_or_raise(self) -> T:
        """Return the result, or raise TaskException with the remote traceback."""
        if self.is_success:
            return cast(T, self.result)
        raise TaskException(*(self.exception or (self.state, "", "")))

    async def logs(self, host: Host | None = None) -> str:
        """Return what this attempt printed; `host` as for `shoal.attach`."""
        from shoal.api import logs

        return await logs(self.log_file_name, host, attempt=self.attempt)


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
