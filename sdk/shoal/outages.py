"""Waits for a bucket that is away for a while, as its reader waits for an API server.

Only what may heal by itself is waited for: no answer, answers of 500 and above. A key that the
bucket refuses, or an object that is not there, is an error at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shoal.errors import ApiError, StorageUnavailable
from shoal.following import API_SECONDS

T = TypeVar("T")

UPLOAD_SECONDS = 10.0
"""How long an upload is tried: who submits looks on."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts, in seconds; the last one repeats."""
QUIET_SECONDS = 60.0
"""The least distance between two warnings of one reader."""

_log = logging.getLogger("shoal")


class Outage:
    """What one reader's reads, several at a time, know of the bucket being away."""

    def __init__(self, waiting: str, *, seconds: float = API_SECONDS) -> None:
        """`waiting` names who waits, `seconds` is how long."""
        self._waiting, self._seconds = waiting, seconds
        self._since: float | None = None
        self._told = float("-inf")

    async def outlast(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` returns; while the bucket is away, try again.

        Raises:
            StorageUnavailable: it was away for all of the time.
        """
        attempt = 0
        while True:
            start = time.monotonic()
            try:
                found = await read()
            except (StorageUnavailable, ApiError) as error:
                # the key to the bucket is asked of the API server
                heals = not isinstance(error, ApiError) or error.may_heal
                if not heals or not self._may_wait(error, start):
                    raise
            else:
                self._since = None
                return found
            await asyncio.sleep(_pause(attempt))
            attempt += 1

    def _may_wait(self, error: Exception, start: float) -> bool:
        """Tell whether there is time left, and tell the user what is waited for."""
        now = time.monotonic()
        if self._since is None:
            self._since = start
        left = self._since + self._seconds - now
        if left > 0 and now - self._told > QUIET_SECONDS:
            self._told = now
            _log.warning("%s waits (%.0f s at the most): %s", self._waiting, left, error)
        return left > 0


def insist(write: Callable[[], T], *, seconds: float = UPLOAD_SECONDS) -> T:
    """Return what `write` returns; try it for some seconds while the bucket is away (blocking)."""
    end, attempt = time.monotonic() + seconds, 0
    while True:
        try:
            return write()
        except StorageUnavailable:
            pause = _pause(attempt)
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        attempt += 1


def _pause(attempt: int) -> float:
    return PAUSES[min(attempt, len(PAUSES) - 1)]
