"""Collects what tasks print and writes it to the bucket in chunks, for clients to follow.

A chunk ``logs/<n>`` is a frame: ``{"lines": [[task, attempt, pod], ...]}`` and one blob for
each. Output is worth less than results: a chunk that cannot be written is retried a few times, then
dropped, and the next one says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from shoal.dispatch.model import JobSpec, JobStore
from shoal.errors import StorageError
from shoal.worker import frames

#: The least distance between two chunks, in seconds.
INTERVAL = 0.5
#: A chunk is written at once when it holds this many bytes.
CHUNK_SIZE = 1 << 20
#: How often a chunk is tried.
ATTEMPTS = 3

_log = logging.getLogger(__name__)


class Output(NamedTuple):
    """Some bytes that one task attempt wrote to its standard output or error."""

    task: int
    attempt: int
    pod: str
    text: bytes


def key(prefix: str, n: int) -> str:
    """Return chunk n's key under a job's prefix."""
    return f"{prefix}/logs/{n:08d}"


def open_chunk(raw: bytes) -> list[Output]:
    """Decode a chunk.

    Raises:
        shoal.worker.frames.FrameError: the bytes are no chunk.
    """
    header, blobs = frames.unpack(raw)
    return [
        Output(int(task), int(attempt), str(pod), bytes(blob))
        for (task, attempt, pod), blob in zip(header["lines"], blobs, strict=True)
    ]


class Logbook:
    """The log of one job."""

    def __init__(self, spec: JobSpec, store: JobStore, on_durable: Callable[[], None]) -> None:
        """`on_durable` is called after each chunk."""
        self._spec, self._store, self._on_durable = spec, store, on_durable
        self.length = 0
        self._held: list[Output] = []
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self._last = float("-inf")
        self._full = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether some output is not written yet."""
        return bool(self._held) or (self._task is not None and not self._task.done())

    def add(self, output: list[Output]) -> None:
        """Add output; it is written within `INTERVAL`."""
        self._held.extend(output)
        self._size += sum(len(part.text) for part in output)
        if self._size >= CHUNK_SIZE:
            self._full.set()
        if self._held and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name=f"logs of {self._spec.name}")

    async def flush(self) -> None:
        """Write what is held, at once."""
        while self._task is not None and not self._task.done():
            self._full.set()
            await asyncio.shield(self._task)

    def stop(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held:
            wait = self._last + INTERVAL - loop.time()
            if wait > 0:
                try:
                    await asyncio.wait_for(self._full.wait(), wait)
                except TimeoutError:
                    pass  # the interval is over: that is what was waited for
            self._full.clear()
            held, self._held, self._size = self._held, [], 0
            self._last = loop.time()
            await self._write(held)

    async def _write(self, held: list[Output]) -> None:
        lines = [[part.task, part.attempt, part.pod] for part in held]
        raw = frames.pack({"lines": lines}, [part.text for part in held])
        for attempt in range(ATTEMPTS):
            try:
                # after a restart the number of chunks is only known from the last entry
                while not await self._store.create(key(self._spec.prefix, self.length), raw):
                    self.length += 1
                self.length += 1
                self._on_durable()
                return
            except (StorageError, OSError, TimeoutError) as error:
                _log.warning("%s: writing a log chunk failed: %s", self._spec.name, error)
                await asyncio.sleep(0.2 * 2**attempt)
        lost = sum(len(part.text) for part in held)
        note = f"[shoal: {lost} bytes of output could not be written to the bucket]\n".encode()
        self._held.insert(0, Output(held[0].task, held[0].attempt, held[0].pod, note))
        self._size += len(note)
