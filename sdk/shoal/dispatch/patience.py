"""How a bucket that fails is waited for: longer each time, and told of when it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Waits between attempts while the bucket fails, in seconds; the last one repeats.
BACKOFFS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
#: So many attempts must have failed before the bucket is called away: it may only have blinked.
TOLD = 4


class Patience:
    """The attempts at one write."""

    def __init__(self, on_trouble: Callable[[Exception | None], None]) -> None:
        """`on_trouble` is told of errors that last, and None when they are over."""
        self._on_trouble = on_trouble
        self._failures = 0

    async def failed(self, error: Exception) -> float:
        """Wait before the next attempt; return for how long that was, in seconds."""
        self._failures += 1
        if self._failures >= TOLD:
            self._on_trouble(error)
        pause = BACKOFFS[min(self._failures, len(BACKOFFS)) - 1]
        await asyncio.sleep(pause)
        return pause

    def over(self) -> None:
        """Note that there are no further attempts."""
        if self._failures >= TOLD:
            self._on_trouble(None)
