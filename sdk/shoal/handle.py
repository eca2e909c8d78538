"""A run that goes on by itself: look at it, wait for it, read it, end it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from shoal import outcome
from shoal.errors import ConfigurationError
from shoal.machinery import Ended, Printed, Run
from shoal.printing import Printer
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
        async with aclosing(self._run.events(logs=False)) as events:
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

    async def results(self) -> AsyncGenerator[TaskResult[Any], None]:
        """Yield the tasks' outcomes, those that are there and then the others as they come."""
        if self._run.kind == "command":
            raise ConfigurationError(f"{self.full_name} is a command: use result() or logs()")
        async with aclosing(outcome.tasks(self._run, logs=False)) as tasks:
            async for task in tasks:
                yield task

    async def logs(self, *, follow: bool = False) -> str:
        """Return what was printed so far; with `follow`, until the end."""
        status = await self._run.status()
        chunks = (status.get("logs") or {}).get("length", 0)
        if not chunks and not follow:
            return ""
        text: list[str] = []
        printer, seen = Printer(prefixed=self._run.kind == "map", write=text.append), 0
        async with aclosing(self._run.events(logs=True)) as events:
            async for event in events:
                if isinstance(event, Printed):
                    seen += 1
                    printer.show(event.outputs)
                if isinstance(event, Ended) or (seen >= chunks and not follow):
                    break
        printer.close()
        return "".join(text)

    async def cancel(self) -> None:
        """End it; finished tasks keep their results. No error if it has ended already."""
        await self._run.cancel()

    async def delete(self) -> None:
        """Remove it with all that belongs to it, running or not."""
        await self._run.delete()

    def __aiter__(self) -> AsyncGenerator[TaskResult[Any], None]:
        return self.results()
