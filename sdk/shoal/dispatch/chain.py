"""Writes a job's ledger: one entry after the other, each created only if its key is absent.

What waits is written together: while one entry is on its way the next one gathers company, and
entries keep a distance that grows with the number of jobs, so that a busy operator stays under a
few hundred PUTs a second. Whoever added something may wait until it is durable.

A lost answer is settled by reading: the same bytes are ours, other bytes mean that somebody else
writes this ledger, and this writer stops for good (`Fenced`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from shoal import ledger
from shoal.dispatch.model import JobSpec, JobStore
from shoal.dispatch.patience import Patience
from shoal.ledger import Charge, Terminal
from shoal.worker.records import Record

#: An entry is closed once its results hold this many bytes.
ENTRY_SIZE = 8 << 20

_log = logging.getLogger(__name__)


class Fenced(Exception):
    """The next entry exists and is not ours: another dispatcher works on this job."""


class _Batch:
    """What the next entry will hold, and who waits for it."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.records: list[Record] = []
        self.pods: list[tuple[int, str, str]] = []
        self.charges: list[Charge] = []
        self.terminal: Terminal | None = None
        self.size = 0
        self.done = done


class LedgerWriter:
    """The one writer of a job's ledger.

    `on_durable` is called after each entry with the entry, `on_trouble` with what keeps it from
    being written, and with None when it was written after all.
    """

    def __init__(
        self,
        spec: JobSpec,
        store: JobStore,
        secret: bytes,
        *,
        interval: Callable[[], float],
        on_durable: Callable[[ledger.Entry], None],
        on_trouble: Callable[[Exception | None], None],
        logs_length: Callable[[], int],
    ) -> None:
        """`interval` gives the least distance between entries in seconds, as it is now."""
        self._spec, self._store, self._secret = spec, store, secret
        self._interval = interval
        self._on_durable, self._on_trouble = on_durable, on_trouble
        self._logs_length = logs_length
        self.length = 0
        self.digest = ledger.GENESIS
        self._batch: _Batch | None = None
        self._in_flight: _Batch | None = None
        self._task: asyncio.Task[None] | None = None
        # the bytes of the entries since the last roll-up, or since this writer began
        self._unrolled: list[bytes] = []
        self._last_roll_up = -1
        self._last = float("-inf")
        self.closed = False

    def resume(self, length: int, digest: str) -> None:
        """Go on behind the entry whose digest is `digest`."""
        self.length, self.digest = length, digest
        self._unrolled = []

    def add_results(self, records: list[Record], pod: str, node: str) -> asyncio.Future[None]:
        """Add outcomes that one worker reported; the future is done when they are durable."""
        batch = self._open()
        batch.records.extend(records)
        batch.pods.append((len(records), pod, node))
        batch.size += sum(len(record.data) for record in records)
        return batch.done

    def add_charge(self, charge: Charge) -> asyncio.Future[None]:
        """Add the charge of an attempt; the future is done when it is durable."""
        batch = self._open()
        batch.charges.append(charge)
        return batch.done

    def close(self, terminal: Terminal) -> asyncio.Future[None]:
        """Add the terminal record; nothing is added after it."""
        batch = self._open()
        batch.terminal = terminal
        self.closed = True
        return batch.done

    def waiting_records(self) -> list[Record]:
        """Return the results that were added and are not durable yet."""
        held = [batch.records for batch in (self._in_flight, self._batch) if batch is not None]
        return [record for records in held for record in records]

    def barrier(self) -> asyncio.Future[None] | None:
        """Return what to wait for so that all that was added before is durable, or None."""
        if self._batch is not None:
            return self._batch.done
        return self._in_flight.done if self._in_flight is not None else None

    def stop(self) -> None:
        """Stop writing; what was not durable is not acknowledged, and so not lost."""
        if self._task is not None:
            self._task.cancel()
        self._fail(Fenced(f"{self._spec.name}: the dispatcher stopped"))

    def _open(self) -> _Batch:
        if self._batch is None:
            self._batch = _Batch(asyncio.get_running_loop().create_future())
            # a waiter may have left with its connection: its exception is then nobody's news
            self._batch.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"ledger of {self._spec.name}")
        return self._batch

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._batch is not None:
                wait = self._last + self._interval() - loop.time()
                if wait > 0 and self._batch.size < ENTRY_SIZE:
                    await asyncio.sleep(wait)
                else:
                    # what came in the same breath goes into the same entry
                    await asyncio.sleep(0)
                batch, self._batch = self._batch, None
                self._in_flight = batch
                self._last = loop.time()
                await self._write(batch)
                self._in_flight = None
        except Fenced as error:
            self._fail(error)
            self._on_trouble(error)

    def _fail(self, error: Exception) -> None:
        for batch in (self._in_flight, self._batch):
            if batch is not None and not batch.done.done():
                batch.done.set_exception(error)

    async def _write(self, batch: _Batch) -> None:
        entry = ledger.Entry(
            n=self.length,
            prev=self.digest,
            records=batch.records,
            pods=batch.pods,
            charges=batch.charges,
            terminal=batch.terminal,
            logs=self._logs_length(),
            last_roll_up=self._last_roll_up,
        )
        raw = ledger.seal(entry, self._spec.context, self._secret)
        await self._append(raw)
        self._in_flight = None
        batch.done.set_result(None)
        self._tell(entry)
        if batch.terminal is None:
            await self._roll_up(raw)

    async def _append(self, raw: bytes) -> None:
        await self._create(ledger.key(self._spec.prefix, self.length), raw)
        self.length, self.digest = self.length + 1, ledger.digest_of(raw)

    async def _roll_up(self, raw: bytes) -> None:
        """Repeat many small entries in one, for who reads the ledger from its start."""
        self._unrolled.append(raw)
        if len(self._unrolled) < ledger.ROLL_UP:
            return
        rolled, self._unrolled = self._unrolled, []
        if sum(map(len, rolled)) <= ledger.ROLL_UP_SIZE:
            entry = ledger.Entry(
                n=self.length,
                prev=self.digest,
                rolled=rolled,
                logs=self._logs_length(),
                last_roll_up=self._last_roll_up,
            )
            self._last_roll_up = entry.n
            await self._append(ledger.seal(entry, self._spec.context, self._secret))
            self._tell(entry)

    def _tell(self, entry: ledger.Entry) -> None:
        try:
            self._on_durable(entry)
        except Exception:
            # it is durable all the same: who listens badly must not stop the ledger
            _log.exception("%s: nobody could be told of entry %d", self._spec.name, entry.n)

    async def _create(self, key: str, raw: bytes) -> None:
        """Create the entry, or find that it is there already; retry as long as it takes."""
        patience = Patience(self._on_trouble)
        while True:
            try:
                if await self._store.create(key, raw) or await self._store.get(key) == raw:
                    _log.debug("%s: %s is durable", self._spec.name, key)
                    patience.over()
                    return
                raise Fenced(f"{self._spec.name}: {key} was written by somebody else")
            except Fenced:
                raise
            except Exception as error:  # whatever it is: what was accepted is not let go
                _log.warning("%s: writing %s failed, trying again: %r", self._spec.name, key, error)
                await patience.failed(error)
