"""A bucket in memory with latency and faults; it watches what is written to the ledger."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from shoal.errors import StorageUnavailable

T = TypeVar("T")

#: A request that hangs fails after so long, in seconds.
HANG_SECONDS = 30.0


class Bucket:
    """The objects, and what happens to the next requests."""

    def __init__(self, latency: float, on_create: Callable[[str, bytes], None]) -> None:
        """`on_create` is called with key and bytes of each object that was created."""
        self.objects: dict[str, bytes] = {}
        self.latency = latency
        self.faults: deque[str] = deque()
        self.down_until = 0.0
        self._on_create = on_create

    def create(self, key: str, data: bytes) -> bool:
        """Create the object unless it is there."""
        if key in self.objects:
            return False
        self.objects[key] = data
        self._on_create(key, data)
        return True

    def heal(self) -> None:
        """No more faults."""
        self.faults.clear()
        self.down_until = 0.0


class BucketClient:
    """The bucket as one operator process reaches it."""

    def __init__(self, bucket: Bucket) -> None:
        """Connect."""
        self._bucket = bucket
        self.pending: dict[str, bytes] = {}

    async def create(self, key: str, data: bytes) -> bool:
        def effect() -> bool:
            self.pending.pop(key, None)
            return self._bucket.create(key, bytes(data))

        self.pending[key] = bytes(data)
        return await self._request(effect)

    async def put(self, key: str, data: bytes) -> None:
        await self._request(lambda: self._bucket.objects.update({key: bytes(data)}))

    async def get(self, key: str) -> bytes | None:
        return await self._request(lambda: self._bucket.objects.get(key))

    async def _request(self, effect: Callable[[], T]) -> T:
        bucket = self._bucket
        fault = bucket.faults.popleft() if bucket.faults else ""
        await asyncio.sleep(bucket.latency / 2)
        if asyncio.get_running_loop().time() < bucket.down_until:
            raise StorageUnavailable("the bucket is away")
        if "before" not in fault:
            answer = effect()
        if "hang" in fault:
            await asyncio.sleep(HANG_SECONDS)
        if fault:
            raise StorageUnavailable(fault)
        await asyncio.sleep(bucket.latency / 2)
        return answer

    def url_to_get(self, key: str) -> str:
        return f"memory://{key}"

    def url_to_put(self, key: str) -> str:
        return f"memory://{key}"
