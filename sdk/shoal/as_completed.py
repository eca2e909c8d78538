"""What `run_map_as_completed` returns: awaited or not, it can be iterated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any

from shoal import outcome
from shoal.arguments import Draft
from shoal.hosts import Host
from shoal.machinery import Run
from shoal.progress import bar
from shoal.results import TaskResult
from shoal.waiting import guarded_each


class TasksAsCompleted:
    """The outcomes of a map's tasks; iterate it once."""

    def __init__(self, host: Host, draft: Draft, *, logs: bool, detach: bool) -> None:
        """`detach`: the map goes on when its reader stops."""
        self._host, self._draft, self._logs, self._detach = host, draft, logs, detach
        self._run: Run | None = None

    def __await__(self) -> Generator[Any, None, TasksAsCompleted]:
        """Submit the map, so that it runs while the caller does something else."""
        yield from self._submit().__await__()
        return self

    async def __aiter__(self) -> AsyncGenerator[TaskResult[Any], None]:
        """Submit the map unless that is done, and yield its tasks."""
        await self._submit()
        if self._run is None:
            return
        with bar(self._run) as shown:
            observe = shown.observe if shown else None
            tasks = outcome.tasks(self._run, logs=self._logs, observe=observe)
            async with aclosing(guarded_each(self._run, tasks, detach=self._detach)) as guarded:
                async for task in guarded:
                    yield task
                    del task

    async def _submit(self) -> None:
        if self._run is None and self._draft.items:
            self._run = await self._host.machinery().submit(await self._draft.call())
