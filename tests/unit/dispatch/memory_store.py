"""A bucket in memory that can be told to fail: for tests that need faults at an exact place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shoal import ledger
from shoal.errors import StorageUnavailable
from shoal.worker.records import Record


class MemoryStore:
    """Keeps objects in a dict; `trouble(verb, key)` may raise, or return "after" to fail late."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.trouble: Callable[[str, str], str | None] = lambda verb, key: None
        self.writes = 0

    async def create(self, key: str, data: bytes) -> bool:
        await asyncio.sleep(0)
        late = self.trouble("create", key)
        if key in self.objects:
            return False
        self.objects[key] = bytes(data)
        self.writes += 1
        if late:
            raise StorageUnavailable("the answer was lost")
        return True

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.sleep(0)
        self.trouble("put", key)
        self.objects[key] = bytes(data)

    async def get(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        self.trouble("get", key)
        return self.objects.get(key)

    def url_to_get(self, key: str) -> str:
        return f"memory://{key}"

    def url_to_put(self, key: str) -> str:
        return f"memory://{key}"

    def records(self) -> list[Record]:
        """Return all outcomes of all ledgers, in the order of their keys."""
        entries = [self.objects[key] for key in sorted(self.objects) if "/ledger/" in key]
        return [record for raw in entries for record in ledger.open_entry(raw).records]
