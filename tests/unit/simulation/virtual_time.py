"""Time that costs nothing: an event loop that jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

#: Virtual time begins here, in seconds: 0 means "unknown" in the operator's facts.
START = 1000.0
#: More turns of the loop than this in one sequence is a loop without end.
MOST_TURNS = 400_000


class NothingLeft(Exception):
    """Every task waits for something that cannot happen any more."""


class _Jumping(selectors.BaseSelector):
    """Hears of no file; to wait is to move the clock."""

    def __init__(self) -> None:
        self.now = START
        self.turns = 0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[Any]:
        self.turns += 1
        if timeout is None:
            raise NothingLeft
        if self.turns > MOST_TURNS:
            raise NothingLeft(f"{self.turns} turns of the loop")
        self.now += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Callable[[], Coroutine[Any, Any, None]], *, on_error: Callable[[str], None]) -> None:
    """Run `main` in virtual time; what fails unseen in the loop is told to `on_error`."""
    loop = VirtualLoop()
    loop.set_exception_handler(
        lambda _, context: on_error(f"{context['message']}: {context.get('exception')!r}")
    )
    try:
        loop.run_until_complete(main())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
