"""A run that goes on by itself: look at it, wait for it, read it, end it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from shoal import outcome
from shoal.cursor import Cursor
from shoal.errors import ConfigurationError
from shoal.log_texts import pieces
from shoal.machinery import Run
from shoal.results import TaskResult

if TYPE_CHECKING:
    from shoal.resources import JobStatus, MapJobStatus


class JobHandle:
    """What the submit functions and `attach` return.

    Any method can be used any number of times, in any order, from several tasks: each reads the run
    from its start.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        return f"<JobHandle {self._run.full_name}>"

    @property
    def name(self) -> str:
        """Return the name by which `shoal.attach` finds it from anywhere."""
        return self._run.name

    @property
    def full_name(self) -> str:
        """Return the name with its kind, such as ``mapjobs.shoal.dev/x``."""
        return self._run.full_name

    async def status(self) -> JobStatus | MapJobStatus:
        """Return the status as it is now (`shoal.resources`): phase, counts, conditions.

        Its phase is Pending as long as no operator has seen it. Raises JobDeleted if it is not
        there any more.
        """
        from shoal.resources import JobStatus, MapJobStatus

        model = MapJobStatus if self._run.kind == "map" else JobStatus
        status = await self._run.status()
        return model.from_dict({**status, "phase": status.get("phase") or "Pending"})

    async def wait(self) -> JobStatus | MapJobStatus:
        """Wait for the end, however it ends, and return the last status."""
        async with aclosing(self._run.events(logs=False, results=False)) as events:
            async for _ in events:
                pass
        return await self.status()

    async def result(self) -> Any:
        """Wait, and return or raise what the matching run function would.

        A function's result, a command's JobCompletion, the list of a map's results.
        """
        if self._run.kind == "map":
            return await outcome.whole(self._run, logs=False)
        return await outcome.single(self._run, logs=False)

    async def results(self, *, after: str | None = None) -> AsyncGenerator[TaskResult[Any], None]:
        """Yield the tasks' outcomes, those that are there and then the others as they come.

        With `after`, a `TaskResult.cursor`, only what comes behind that task: who keeps the cursor
        of each task that he has processed, and begins again after the last one, on this machine or
        another, gets each of the others once.

        Raises ConfigurationError for a cursor of another run.
        """
        if self._run.kind == "command":
            raise ConfigurationError(f"{self.full_name} is a command: use result() or logs()")
        start = Cursor.parse(after) if after else None
        async with aclosing(outcome.tasks(self._run, logs=False, after=start)) as tasks:
            async for task in tasks:
                yield task
                del task

    async def logs(
        self, *, task: int | None = None, attempt: int | None = None, follow: bool = False
    ) -> str:
        """Return what was printed so far; with `follow`, at the end.

        Of one task or one attempt alone, if wanted. Lines of a map begin with their task's index
        unless `task` is given.
        """
        async with aclosing(pieces(self._run, task, attempt, follow=follow)) as found:
            return "".join([piece async for piece in found])

    async def follow_logs(
        self, *, task: int | None = None, attempt: int | None = None
    ) -> AsyncGenerator[str, None]:
        """Yield what `logs` returns, and then what is printed until the end, as it comes."""
        async with aclosing(pieces(self._run, task, attempt, follow=True)) as found:
            async for piece in found:
                yield piece

    async def suspend(self) -> None:
        """Pause it: its tasks are taken back, and its workers are free for others.

        What has finished stays so. A task that runs is begun again after `resume`, which costs it
        no attempt.
        """
        await self._run.suspend(True)

    async def resume(self) -> None:
        """Let a suspended run go on."""
        await self._run.suspend(False)

    async def set_parallelism(self, workers: int) -> None:
        """Set how many workers a map may have at one time; those beyond end their tasks first.

        Raises ConfigurationError for what is no map.
        """
        if self._run.kind != "map":
            raise ConfigurationError(f"{self.full_name} is no map: it has one worker")
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigurationError(f"the number of workers must be 1 or more, not {workers!r}")
        await self._run.set_parallelism(workers)

    async def cancel(self) -> None:
        """End it; finished tasks keep their results. No error if it has ended already."""
        await self._run.cancel()

    async def delete(self) -> None:
        """Remove it with all that belongs to it, running or not."""
        await self._run.delete()

    def __aiter__(self) -> AsyncGenerator[TaskResult[Any], None]:
        return self.results()
