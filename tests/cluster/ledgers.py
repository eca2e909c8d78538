"""What the ledger in the bucket says of a job, checked against what it should say.

Read with the operator's own key, entry by entry, from the first to the one that the status vouches
for; `shoal.ledger_reader` refuses a chain that is broken or that forks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from namespaces import Place, bucket

from shoal.kube import CONFIGMAPS
from shoal.ledger import Charge, Entry, Terminal
from shoal.ledger_reader import LedgerReader
from shoal.storage import S3Storage
from shoal.worker.records import JSON, PICKLE, SUCCEEDED, Record


@dataclass(frozen=True)
class Book:
    """A job's whole ledger."""

    storage: S3Storage
    prefix: str
    entries: Sequence[Entry]

    @property
    def records(self) -> list[Record]:
        """The outcomes, in the order in which they were accepted."""
        return [record for entry in self.entries for record in entry.records]

    @property
    def charges(self) -> list[Charge]:
        """The failed attempts that were charged."""
        return [charge for entry in self.entries for charge in entry.charges]

    @property
    def terminal(self) -> list[Terminal]:
        """The records of its end."""
        return [entry.terminal for entry in self.entries if entry.terminal]

    def values(self) -> dict[int, Any]:
        """The result of each task that succeeded."""
        return {r.task: self._value(r) for r in self.records if r.state == SUCCEEDED}

    def _value(self, record: Record) -> Any:
        data = bytes(record.data)
        if record.ref is not None:
            data = self.storage.get(record.ref.key)
            assert hashlib.sha256(data).hexdigest() == record.ref.sha256
        assert record.encoding in (PICKLE, JSON)
        return pickle.loads(data) if record.encoding == PICKLE else json.loads(data)


async def prefix_of(place: Place, status: dict[str, Any]) -> str:
    """Where a job's objects are, without a slash at the end."""
    told = (await place.api.get(CONFIGMAPS, "shoal", place.namespace))["data"]
    above = status.get("storage", {}).get("prefix", "")
    parts = [above, told["clusterId"], place.namespace, "jobs", status["id"]]
    return "/".join(part for part in parts if part)


async def read(place: Place, status: dict[str, Any]) -> Book:
    """Read the ledger that a status vouches for."""
    storage, prefix = await bucket(place.api), await prefix_of(place, status)

    async def get(key: str) -> bytes:
        return await asyncio.to_thread(storage.get, key)

    told = status["ledger"]
    reader = LedgerReader(get, prefix)
    return Book(storage, prefix, [e async for e in reader.read(told["length"], told["digest"])])


async def check_all_once(
    place: Place, name: str, expected: Sequence[Any], *, kind: str = "MapJob"
) -> Book:
    """Check that a finished job's ledger holds each result once, all of them right."""
    status = (await place.get(kind, name))["status"]
    assert status["phase"] == "Complete", status
    book = await read(place, status)
    assert Counter(r.task for r in book.records) == Counter(range(len(expected)))
    assert [value for _, value in sorted(book.values().items())] == list(expected)
    assert [(end.outcome, end.reason) for end in book.terminal] == [("complete", "")]
    assert book.entries[-1].terminal is not None
    beyond = f"{book.prefix}/ledger/{len(book.entries):08d}"
    assert not await asyncio.to_thread(book.storage.exists, beyond)
    return book
