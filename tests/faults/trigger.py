"""What a point does when it is reached: it is noted once, and if it is armed the process ends.

Ends means `os._exit`: no handler runs, no buffer is flushed, as with SIGKILL or a power cut.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
NAME = "__fault__"
"""The name by which instrumented modules know this one."""
KILLED = 137
"""The exit code, as after SIGKILL."""


class _State:
    """What is armed in this process."""

    def __init__(self) -> None:
        self.record = -1
        self.seen: set[str] = set()
        self.armed: dict[str, int] = {}
        self.later: dict[str, int] = {}
        self.later_at = float("inf")


_state = _State()


def arm(
    record: str,
    armed: Iterable[str],
    *,
    later: Iterable[str] = (),
    later_seconds: float = 0.0,
    nth: int = 1,
) -> None:
    """End this process when one of `armed` is reached the `nth` time; note all that are reached.

    `record` is the file with the notes: a name a line, after the deadly one an exclamation mark.
    After `later_seconds` those of `later` are armed, too.
    """
    _state.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _state.seen = set()
    _state.armed = dict.fromkeys(armed, nth)
    _state.later = dict.fromkeys(later, 1)
    _state.later_at = time.monotonic() + later_seconds


def disarm() -> None:
    """Note nothing any more, and end at nothing."""
    os.close(_state.record)
    _state.__init__()  # type: ignore[misc]


def reached(name: str) -> None:
    """Note a point; end the process if it is armed and this is the time."""
    if _state.record < 0:
        return
    if name not in _state.seen:
        _state.seen.add(name)
        os.write(_state.record, f"{name}\n".encode())
    if _state.later and time.monotonic() >= _state.later_at:
        _state.armed = {**_state.later, **_state.armed}
        _state.later = {}
    left = _state.armed.get(name)
    if left is None:
        return
    if left == 1:
        os.write(_state.record, f"{name}!\n".encode())
        os._exit(KILLED)
    _state.armed[name] = left - 1


def read_record(path: Path) -> tuple[set[str], str]:
    """From a record: the points that were reached, and the one that killed ("" for none)."""
    lines = path.read_text().splitlines() if path.exists() else []
    deadly = [line[:-1] for line in lines if line.endswith("!")]
    return {line for line in lines if not line.endswith("!")}, deadly[-1] if deadly else ""


async def around(spot: str, awaitable: Awaitable[T], what: str = "await") -> T:
    """Await, with the points before and after; after a failure, too."""
    reached(f"{spot}:{what}:before")
    try:
        result = await awaitable
    except GeneratorExit:
        raise  # the loop is gone: nothing comes after this
    except BaseException:
        reached(f"{spot}:{what}:after")
        raise
    reached(f"{spot}:{what}:after")
    return result


class Context:
    """An asynchronous context with points around its beginning and its end."""

    def __init__(self, spot: str, inner: Any) -> None:
        self._spot, self._inner = spot, inner

    async def __aenter__(self) -> Any:
        entering = type(self._inner).__aenter__(self._inner)
        return await around(self._spot, entering, "enter")

    async def __aexit__(
        self,
        type_: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        leaving = type(self._inner).__aexit__(self._inner, type_, error, traceback)
        return await around(self._spot, leaving, "exit")


class Stream:
    """An asynchronous iterator with points around each step."""

    def __init__(self, spot: str, inner: Any) -> None:
        self._spot, self._inner = spot, inner

    def __aiter__(self) -> AsyncIterator[Any]:
        self._inner = type(self._inner).__aiter__(self._inner)
        return self

    async def __anext__(self) -> Any:
        return await around(self._spot, type(self._inner).__anext__(self._inner), "next")
