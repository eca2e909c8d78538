"""Shows what the builder of an environment says, on stderr, while a caller waits for it."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import aclosing

from shoal.errors import ShoalException
from shoal.machinery import Event, Observed, Printed, Run
from shoal.printing import Printer

REST_SECONDS = 2.0
"""How long the last lines may take after the run has ended."""

_log = logging.getLogger("shoal")


class BuildLog:
    """The builder's output, for one run, from when the run says that it waits for one.

    What is under way at the end of its `with` block is waited for a moment; not after an error.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BuildLog:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._task is not None:
            if kind is None:
                await asyncio.wait([self._task], timeout=REST_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task])

    def observe(self, event: Event) -> None:
        """Take an event of the run."""
        if self._task is not None or not isinstance(event, Observed):
            return
        name = event.status.get("environmentJob")
        reasons = {condition["reason"] for condition in event.status.get("conditions", ())}
        if name and "EnvironmentBuilding" in reasons:
            self._task = asyncio.create_task(self._show(name), name=f"log of {name}")

    async def _show(self, name: str) -> None:
        printer = Printer(prefixed=False, write=sys.stderr.write)
        try:
            build = await self._run.beside(name)
            async with aclosing(build.events(logs=True, results=False)) as events:
                async for event in events:
                    if isinstance(event, Printed):
                        printer.show(event.outputs)
        except ShoalException as error:  # its result matters, not its words
            _log.info("the output of %s can't be read: %s", name, error)
