"""The part of a bucket that one job may use: where it lies, and with which key it is used.

The bucket is asked for anew at each use, so that a key that was changed reaches the jobs that run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shoal.errors import AccessDenied

from .bucket import Bucket
from .buckets import BucketProblem, Buckets
from .resolve import Storage

T = TypeVar("T")
URL_SECONDS = 6 * 3600.0


class JobBucket:
    """The part of a bucket that one job may use (a `shoal.dispatch.JobStore`)."""

    def __init__(self, buckets: Buckets, storage: Storage, bucket: Bucket, *prefixes: str) -> None:
        """`bucket` is `storage` as it is open now; `prefixes` end in a slash, or are whole keys."""
        self._buckets = buckets
        self._storage = storage
        self._last = bucket
        self._folders = tuple(prefix for prefix in prefixes if prefix.endswith("/"))
        self._keys = frozenset(prefixes) - frozenset(self._folders)

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object unless the key exists."""
        own = self._own(key)
        return await self._use(lambda bucket: bucket.create(own, data))

    async def put(self, key: str, data: bytes) -> None:
        """Write the object."""
        own = self._own(key)
        await self._use(lambda bucket: bucket.put(own, data))

    async def get(self, key: str) -> bytes | None:
        """Return the object, or None."""
        own = self._own(key)
        return await self._use(lambda bucket: bucket.get(own))

    def url_to_get(self, key: str) -> str:
        """Return a URL that a worker may read with."""
        return self._now().storage.presign_get(self._own(key), seconds=URL_SECONDS)

    def url_to_put(self, key: str) -> str:
        """Return a URL that a worker may write with."""
        return self._now().storage.presign_put(self._own(key), seconds=URL_SECONDS)

    async def _use(self, ask: Callable[[Bucket], Awaitable[T]]) -> T:
        """Ask the bucket; if it refuses the key, once more with the key that is valid now."""
        bucket = self._buckets.known(self._storage) or await self._open()
        try:
            return await ask(bucket)
        except AccessDenied:
            self._buckets.forget(self._storage, bucket)
        bucket = await self._open()
        try:
            return await ask(bucket)
        except AccessDenied:
            self._buckets.forget(self._storage, bucket)
            raise

    async def _open(self) -> Bucket:
        try:
            self._last = await self._buckets.open(self._storage)
        except BucketProblem as error:
            raise error.as_storage_error() from error
        return self._last

    def _now(self) -> Bucket:
        self._last = self._buckets.known(self._storage) or self._last
        return self._last

    def _own(self, key: str) -> str:
        if not (key in self._keys or key.startswith(self._folders)) or ".." in key.split("/"):
            raise AccessDenied(f"{key} is not this job's: nothing is signed for it")
        return key
