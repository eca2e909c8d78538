"""A queue of dirty parents: one reconcile at a time for each, what comes meanwhile is one more.

Whoever learns that something changed marks the parent and goes on; the queue runs its reconcile at
once unless one is running already, and then once more after it. A reconcile that fails is tried
again with growing pauses; one that asks to be woken at a time is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0


class Timer(Protocol):
    """A timer that was set."""

    def cancel(self) -> None:
        """Have it not ring."""


class DirtyQueue(Generic[Key]):
    """Runs `reconcile(key)` for each key that was marked; `reconcile` returns when to run again.

    It returns seconds since the epoch, or 0 for "when something changes".
    """

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[float]],
        *,
        at_once: int = 64,
        now: Callable[[], float] = time.time,
        call_later: Callable[..., Timer] | None = None,
    ) -> None:
        """`call_later(seconds, function, *arguments)` sets timers; None: the event loop's."""
        self._reconcile = reconcile
        self._now = now
        self._call_later = call_later
        self._slots = asyncio.Semaphore(at_once)
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._timers: dict[Key, tuple[float, Timer]] = {}
        self._failures: dict[Key, int] = {}
        self._open = False
        self._early: set[Key] = set()
        self.reconciled = 0
        self.failed = 0

    def open(self) -> None:
        """Begin to run; what was marked before runs now."""
        self._open = True
        early, self._early = self._early, set()
        for key in early:
            self.mark(key)

    def mark(self, key: Key) -> None:
        """Say that something about `key` changed."""
        if not self._open:
            self._early.add(key)
        elif key in self._running:
            self._again.add(key)
        else:
            self._running[key] = asyncio.create_task(self._run(key))

    def wake(self, key: Key, at: float) -> None:
        """Mark `key` at a time; of several times the earliest holds."""
        known = self._timers.get(key)
        if known is not None:
            if known[0] <= at:
                return
            known[1].cancel()
        delay = max(0.0, at - self._now())
        call_later = self._call_later or asyncio.get_running_loop().call_later
        handle = call_later(delay, self._ring, key)
        self._timers[key] = (at, handle)

    def forget(self, key: Key) -> None:
        """The parent is gone."""
        self._failures.pop(key, None)
        known = self._timers.pop(key, None)
        if known is not None:
            known[1].cancel()

    @property
    def depth(self) -> int:
        """How many keys are being worked on or wait."""
        return len(self._running)

    async def close(self) -> None:
        """Stop all that runs."""
        self._open = False
        for _, handle in self._timers.values():
            handle.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ring(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.mark(key)

    async def _run(self, key: Key) -> None:
        try:
            while True:
                self._again.discard(key)
                async with self._slots:
                    await self._once(key)
                if key not in self._again:
                    return
        finally:
            del self._running[key]
            if key in self._again and self._open:
                self._again.discard(key)
                self.mark(key)

    async def _once(self, key: Key) -> None:
        try:
            at = await self._reconcile(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.failed += 1
            count = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (count - 1))
            level = logging.WARNING if count < 3 else logging.ERROR
            logger.log(level, "%s: %r; again in %.1f s", key, error, pause, exc_info=count == 3)
            self.wake(key, self._now() + pause)
        else:
            self.reconciled += 1
            self._failures.pop(key, None)
            if at:
                self.wake(key, at)
