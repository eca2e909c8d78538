"""Reads a ledger, and believes nothing that its last digest does not vouch for.

The way goes backward first: from the last entry, whose digest is known, each names that of the one
before it, and a roll-up spares the way over those that it repeats. Only when the chain arrives
where the reader stood before are entries decoded, in their order. What is held between the two
passes is bounded; objects beyond that are fetched again, and must have the digest that the first
pass saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import NamedTuple

from shoal import ledger
from shoal.cursor import Cursor
from shoal.errors import ConfigurationError, LedgerTampered, ObjectNotFound
from shoal.ledger import Entry

#: How many entries are fetched at the same time.
READ_AHEAD = 16
#: How many bytes of verified objects are held before their turn.
HELD_SIZE = 64 << 20

Get = Callable[[str], Awaitable[bytes]]


async def present(get: Get, key: str) -> bytes:
    """Return the object of a ledger, or a result that it refers to.

    Raises:
        LedgerTampered: it is not there.
    """
    try:
        return await get(key)
    except ObjectNotFound as error:
        raise LedgerTampered(
            f"{key} is not in the bucket any more: somebody has removed it, or the run's time "
            "there (ttlSecondsAfterFinished) is over"
        ) from error


class _Unit(NamedTuple):
    """An object on the way."""

    n: int
    digest: str
    raw: bytes | None


class LedgerReader:
    """Reads the entries that a status vouches for, as it grows.

    Keeps the position up to which it has read, so that each call reads only what is new.
    """

    def __init__(self, get: Get, prefix: str, after: Cursor | None = None) -> None:
        """`get` fetches an object by key; `prefix` is the job's part of the bucket.

        Entries are read from the first on, or from where `after` was.
        """
        self._get = partial(present, get)
        self._prefix = prefix
        self._after = after
        self.length = after.length if after else 0
        self.digest = after.digest if after else ledger.GENESIS

    def is_behind(self, length: int) -> bool:
        """Tell whether a ledger of `length` entries has something to read or to check."""
        return length > self.length or self._after is not None

    async def read(self, length: int, digest: str) -> AsyncIterator[Entry]:
        """Yield the entries from the last position up to `length`, whose last digest is `digest`.

        Raises:
            LedgerTampered: an entry is missing, changed, or does not follow its predecessor.
            ConfigurationError: this ledger has nothing where the cursor was.
        """
        if length < self.length:
            if self._after is not None:
                raise self._unfit(self._after)
            raise LedgerTampered(
                f"{self._prefix}: the ledger shrank from {self.length} to {length} entries"
            )
        units = await self._way_back(length, digest)
        if self._after is not None and (rest := await self._rest(self._after)) is not None:
            yield rest
        self._after = None
        for unit in reversed(units):
            raw = unit.raw
            if raw is None:
                raw = await self._get(ledger.key(self._prefix, unit.n))
                if ledger.digest_of(raw) != unit.digest:
                    raise LedgerTampered(f"{ledger.key(self._prefix, unit.n)} changed while read")
            last = ledger.open_entry(raw)
            for part in last.rolled:
                entry = ledger.open_entry(part)
                if entry.n >= self.length:
                    self.length, self.digest = entry.n + 1, entry.digest
                    yield entry
            self.length, self.digest = last.n + 1, last.digest
            yield last

    async def _rest(self, after: Cursor) -> Entry | None:
        """Return the cursor's entry with the records behind the cursor, None if it has none."""
        if not after.left:
            return None
        raw = await self._get(ledger.key(self._prefix, after.length - 1))
        if ledger.digest_of(raw) != after.digest:
            raise LedgerTampered(f"{ledger.key(self._prefix, after.length - 1)} was changed")
        entry = ledger.open_entry(raw)
        if after.left > len(entry.records):
            raise self._unfit(after)
        return entry.behind(len(entry.records) - after.left)

    def _unfit(self, after: Cursor) -> ConfigurationError:
        return ConfigurationError(
            f"The cursor {after} does not fit the ledger {self._prefix}: it is of another run"
        )

    async def _way_back(self, length: int, digest: str) -> list[_Unit]:
        """Return the objects between our position and `length`, last one first, verified."""
        units: list[_Unit] = []
        n, expected, held = length - 1, digest, 0
        ahead = _ReadAhead(self._get, self._prefix)
        least = n
        try:
            while n >= self.length:
                raw = await ahead.get(n, least)
                entry = ledger.links(raw)
                if ledger.digest_of(raw) != expected or entry.n != n:
                    raise LedgerTampered(f"{ledger.key(self._prefix, n)} is not what followed it")
                first, expected = self._unroll(entry)
                held += len(raw)
                units.append(_Unit(n, ledger.digest_of(raw), raw if held <= HELD_SIZE else None))
                n = first - 1
                least = n if entry.rolled else max(self.length, entry.last_roll_up)
        finally:
            ahead.close()
        if expected != self.digest and self._after is not None:
            raise self._unfit(self._after)
        if expected != self.digest:
            raise LedgerTampered(
                f"{self._prefix}: entry {self.length} does not follow the entry before it"
            )
        return units

    def _unroll(self, entry: ledger.Links) -> tuple[int, str]:
        """Return the first entry that `entry` stands for, and its predecessor's digest."""
        first, previous = entry.n, entry.prev
        for raw in reversed(entry.rolled):
            if first == self.length:
                break
            part = ledger.links(raw)
            if ledger.digest_of(raw) != previous or part.n != first - 1:
                raise LedgerTampered(f"{ledger.key(self._prefix, entry.n)} rolls up other bytes")
            first, previous = part.n, part.prev
        return first, previous


class _ReadAhead:
    """Fetches entries backward, some of them before they are asked for."""

    def __init__(self, get: Get, prefix: str) -> None:
        self._get, self._prefix = get, prefix
        self._tasks: dict[int, asyncio.Task[bytes]] = {}

    async def get(self, n: int, least: int) -> bytes:
        """Return entry `n`; those before it, down to `least`, will be asked for next."""
        for wanted in range(n, max(least, n - READ_AHEAD), -1) or (n,):
            if wanted not in self._tasks:
                key = ledger.key(self._prefix, wanted)
                self._tasks[wanted] = asyncio.ensure_future(self._fetch(key))
        return await self._tasks.pop(n)

    async def _fetch(self, key: str) -> bytes:
        return await self._get(key)

    def close(self) -> None:
        """Give up what was not asked for."""
        for task in self._tasks.values():
            task.cancel()
