"""Lives, seen from outside: begin one, wait for its end, read what it reached."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from . import trigger

LONGEST = 3600.0
"""Seconds of a life that is not to end by itself."""
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Death:
    """How a life ended. `killed_by` is the point, empty where it ended in another way."""

    number: int
    exit_code: int
    killed_by: str
    reached: frozenset[str]


class Hung(RuntimeError):
    """A life did not end in time."""


class Lives:
    """Begins lives by a mother process; one at a time."""

    def __init__(self, kind: str, folder: Path, *, inherited: Sequence[int] = ()) -> None:
        """`kind` is dispatcher or operator; `folder` gets the log and the records.

        `inherited` are descriptors that every life gets.
        """
        self._kind, self._folder, self._inherited = kind, folder, tuple(inherited)
        self._mother: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        self.count = 0
        self.log = folder / f"{kind}.log"

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        with self.log.open("ab") as log:
            self._mother = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "faults.mother", self._kind),
                cwd=TESTS,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                pass_fds=self._inherited,
            )
        await self._answer()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._mother is not None and self._mother.stdin is not None
        self._mother.stdin.close()
        await self._mother.wait()

    async def live(
        self,
        armed: Iterable[str] = (),
        *,
        stop_after: float | None = None,
        seconds: float = 60.0,
        **order: Any,
    ) -> Death:
        """Let one life begin and wait for its end.

        `armed` are the points of which the first that is reached ends it. After `stop_after`
        seconds it gets a SIGTERM, as a Pod that is deleted does.

        Raises:
            Hung: it has not ended after so many seconds; says where it waits.
        """
        record = self._folder / f"record-{self.count}"
        self.count += 1
        whole = {"log": str(self.log), "record": str(record), "armed": sorted(armed), **order}
        self._say(whole)
        self._pid = (await self._answer())["pid"]
        async with AsyncExitStack() as stack:
            if stop_after is not None:
                timer = asyncio.get_running_loop().call_later(stop_after, self.signal)
                stack.callback(timer.cancel)
            status = await self._end(seconds)
            self._pid = None
        reached, killed_by = trigger.read_record(record)
        record.unlink(missing_ok=True)
        return Death(self.count, status, killed_by, frozenset(reached))

    def begin(self, **order: Any) -> asyncio.Task[Death]:
        """Let a life begin that lasts until a signal ends it."""
        return asyncio.create_task(self.live(seconds=LONGEST, **order))

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the life, if there is one."""
        if self._pid is not None:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(self._pid, number)

    async def _end(self, seconds: float) -> int:
        answer = asyncio.create_task(self._answer())
        done, _ = await asyncio.wait([answer], timeout=seconds)
        if not done:
            begin = self.log.stat().st_size
            self.signal(signal.SIGUSR1)
            await asyncio.wait([answer], timeout=2.0)
            self.signal(signal.SIGKILL)
            await answer
            words = self.log.read_bytes()[begin:].decode(errors="replace")
            raise Hung(f"life {self.count} has not ended after {seconds:g} s:\n{words}")
        status: int = answer.result()["status"]
        return status

    def _say(self, order: dict[str, Any]) -> None:
        assert self._mother is not None and self._mother.stdin is not None
        self._mother.stdin.write(json.dumps(order).encode() + b"\n")

    async def _answer(self) -> dict[str, Any]:
        assert self._mother is not None and self._mother.stdout is not None
        line = await self._mother.stdout.readline()
        if not line:
            raise RuntimeError(f"no lives any more; see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        return answer
