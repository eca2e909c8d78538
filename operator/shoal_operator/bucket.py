"""One bucket over presigned URLs, and the part of it that one job may use.

Conditional writes go out as presigned PUTs with `If-None-Match: *`. Every attempt has a deadline
that closes its socket, since a half-sent conditional PUT may hold the store's lock on the key.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from shoal.errors import AccessDenied, BucketNotFound, StorageError, StorageUnavailable
from shoal.storage import DENIED, S3Storage

from .resolve import Storage

URL_SECONDS = 6 * 3600.0
CONNECT_SECONDS = 3.0
ATTEMPT_SECONDS = 5.0
SLOWEST = 2 << 20
"""Bytes a second below which a transfer counts as stuck."""


class JobBucket:
    """The part of a bucket that one job may use (a `shoal.dispatch.JobStore`)."""

    def __init__(self, bucket: Bucket, *prefixes: str) -> None:
        """`prefixes` end in a slash, or are whole keys."""
        self._bucket = bucket
        self._prefixes = prefixes

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object unless the key exists."""
        return await self._bucket.create(self._own(key), data)

    async def put(self, key: str, data: bytes) -> None:
        """Write the object."""
        await self._bucket.put(self._own(key), data)

    async def get(self, key: str) -> bytes | None:
        """Return the object, or None."""
        return await self._bucket.get(self._own(key))

    def url_to_get(self, key: str) -> str:
        """Return a URL that a worker may read with."""
        return self._bucket.storage.presign_get(self._own(key), seconds=URL_SECONDS)

    def url_to_put(self, key: str) -> str:
        """Return a URL that a worker may write with."""
        return self._bucket.storage.presign_put(self._own(key), seconds=URL_SECONDS)

    def _own(self, key: str) -> str:
        inside = any(
            key.startswith(prefix) if prefix.endswith("/") else key == prefix
            for prefix in self._prefixes
        )
        if not inside or ".." in key.split("/"):
            raise AccessDenied(f"{key} is not this job's: nothing is signed for it")
        return key


class Bucket:
    """One bucket with one key."""

    def __init__(self, storage: S3Storage, session: aiohttp.ClientSession) -> None:
        self.storage = storage
        self._session = session
        self.opened = time.monotonic()

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object unless the key exists; False if it does."""
        for _ in range(3):
            status, body, _ = await self._send("PUT", key, data, {"If-None-Match": "*"})
            if status < 300:
                return True
            if status == 412:
                return False
            if status != 409:  # 409: two at once, one of them is to ask again
                raise self._refusal(status, body, key)
        return False

    async def put(self, key: str, data: bytes) -> None:
        """Write the object."""
        status, body, _ = await self._send("PUT", key, data)
        if status >= 300:
            raise self._refusal(status, body, key)

    async def get(self, key: str) -> bytes | None:
        """Return the object, or None where there is none."""
        status, body, _ = await self._send("GET", key)
        if status == 404 and _code(body) != "NoSuchBucket":
            return None
        if status >= 300:
            raise self._refusal(status, body, key)
        return body

    async def _send(
        self,
        method: str,
        key: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes, str]:
        presign = self.storage.presign_get if method == "GET" else self.storage.presign_put
        url = presign(key, seconds=600)
        limit = ATTEMPT_SECONDS + len(data or b"") / SLOWEST
        read = None if method == "GET" else limit
        timeout = aiohttp.ClientTimeout(total=read, sock_connect=CONNECT_SECONDS, sock_read=limit)
        try:
            async with self._session.request(
                method,
                _url(url),
                data=data,
                headers={"Content-Type": "application/octet-stream", **(headers or {})}
                if data is not None
                else headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                return answer.status, await answer.read(), answer.headers.get("Date", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StorageUnavailable(
                f"{self.storage.where} does not answer: {error or type(error).__name__}"
            ) from error

    def _refusal(self, status: int, body: bytes, key: str) -> StorageError:
        code, where = _code(body), self.storage.where
        words = f"{key} in {where}: {_message(body) or 'refused'} ({code or f'HTTP {status}'})"
        if code == "NoSuchBucket":
            return BucketNotFound(f"there is no {where}: create it, or name another one")
        if code in DENIED or status == 403:
            return AccessDenied(words)
        if status >= 500 or code == "SlowDown" or status in (408, 429):
            return StorageUnavailable(words)
        return StorageError(words)


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where a job's keys lie."""

    folder: str
    job: str

    @classmethod
    def of(cls, storage: Storage, cluster: str, namespace: str, job_id: str) -> JobPlace:
        """The place of a job; `folder` and `job` without a slash at the end of `job`."""
        folder = storage.folder(cluster, namespace)
        return cls(folder, f"{folder}jobs/{job_id}")

    def code(self, sha256: str) -> str:
        """Key of a code zip, shared inside the namespace."""
        return f"{self.folder}code/{sha256}"


def _url(text: str) -> Any:
    """A signed URL, byte for byte: another quoting would break the signature."""
    from yarl import URL

    return URL(text, encoded=True)


def _code(body: bytes) -> str:
    match = re.search(rb"<Code>([^<]{1,200})</Code>", body[:4096])
    return match.group(1).decode(errors="replace") if match else ""


def _message(body: bytes) -> str:
    match = re.search(rb"<Message>([^<]{1,500})</Message>", body[:4096])
    return match.group(1).decode(errors="replace") if match else ""
