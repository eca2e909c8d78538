"""Reads a run's log, chunk by chunk. Output is worth less than results: no chunk fails a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from shoal.dispatch.logbook import key, open_chunk
from shoal.errors import StorageError, StorageUnavailable
from shoal.machinery import Output, Printed

READ_AHEAD = 8
"""Chunks that are read at the same time."""

_log = logging.getLogger("shoal")


class LogReader:
    """Reads the chunks that a status names, as they become more."""

    def __init__(self, get: Callable[[str], Awaitable[bytes]], prefix: str, name: str) -> None:
        """`get` fetches an object, `prefix` is the run's part of the bucket, `name` is its name."""
        self._get, self._prefix, self._name = get, prefix, name
        self.length = 0
        self._warned = False

    async def read(self, length: int) -> AsyncGenerator[Printed, None]:
        """Yield each chunk up to `length`, one that can't be read as one without output."""
        while self.length < length:
            numbers = range(self.length, min(self.length + READ_AHEAD, length))
            for printed in await asyncio.gather(*map(self._chunk, numbers)):
                self.length += 1
                yield printed

    async def _chunk(self, n: int) -> Printed:
        name = key(self._prefix, n)
        try:
            parts = open_chunk(await self._get(name))
        except StorageUnavailable:
            raise
        except (StorageError, ValueError, KeyError, TypeError) as error:
            if not self._warned:
                self._warned = True
                _log.warning("%s: a part of its output can't be read: %r", self._name, error)
            return Printed(())
        return Printed([Output(part.task, part.attempt, part.pod, part.text) for part in parts])
