"""One bucket over presigned URLs.

Conditional writes go out as presigned PUTs with `If-None-Match: *`. Every attempt has a deadline
that closes its socket, since a half-sent conditional PUT may hold the store's lock on the key. No
redirect is followed, and no answer's words are repeated: an endpoint that a job names could lead
us to another one, and have us read out what that one says.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote_plus

import aiohttp

from shoal.errors import AccessDenied, BucketNotFound, StorageError, StorageUnavailable
from shoal.storage import DENIED, S3Storage

CONNECT_SECONDS = 3.0
ATTEMPT_SECONDS = 5.0
SLOWEST = 2 << 20
"""Bytes a second below which a transfer counts as stuck."""
REFUSAL_SIZE = 4096
"""Bytes of a refusal that are read."""
LIST_SIZE = 4 << 20
"""Bytes of a list's page that are read."""
MOST_PAGES = 1000
DELETES_AT_ONCE = 16


class Bucket:
    """One bucket with one key; `guarded` if a job named it, so that it may be anybody's."""

    def __init__(
        self, storage: S3Storage, session: aiohttp.ClientSession, *, guarded: bool = True
    ) -> None:
        self.storage = storage
        self.guarded = guarded
        self._session = session
        self.opened = self.asked = time.monotonic()
        """When it was opened, and when a newer key was last asked for."""

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object unless the key exists; False if it does."""
        url = self.storage.presign_put(key, seconds=600)
        for _ in range(3):
            status, body = await self._send("PUT", url, data, {"If-None-Match": "*"})
            if status < 300:
                return True
            if status == 412:
                return False
            if status != 409:  # 409: two at once, one of them is to ask again
                raise self._refusal(status, body, key)
        return False

    async def put(self, key: str, data: bytes) -> None:
        """Write the object."""
        status, body = await self._send("PUT", self.storage.presign_put(key, seconds=600), data)
        if status >= 300:
            raise self._refusal(status, body, key)

    async def get(self, key: str) -> bytes | None:
        """Return the object, or None where there is none."""
        status, body = await self._send("GET", self.storage.presign_get(key, seconds=600))
        if status == 404 and _code(body) != "NoSuchBucket":
            return None
        if status >= 300:
            raise self._refusal(status, body, key)
        return body

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        status, body = await self._send("DELETE", self.storage.presign_delete(key, seconds=600))
        if status >= 300 and (status != 404 or _code(body) == "NoSuchBucket"):
            raise self._refusal(status, body, key)

    async def clear(self, prefix: str) -> None:
        """Remove all objects whose keys start with `prefix`."""
        async for keys in self._pages(prefix):
            for start in range(0, len(keys), DELETES_AT_ONCE):
                await asyncio.gather(*map(self.delete, keys[start : start + DELETES_AT_ONCE]))

    async def _pages(self, prefix: str) -> AsyncIterator[list[str]]:
        after = ""
        for _ in range(MOST_PAGES):
            url = self.storage.presign_list(prefix, after=after, seconds=600)
            status, body = await self._send("GET", url, most=LIST_SIZE)
            if status >= 300:
                raise self._refusal(status, body, prefix)
            keys = sorted(key for key in _keys(body) if key.startswith(prefix) and key > after)
            if keys:
                yield keys
                after = keys[-1]
            if not keys or b"<IsTruncated>true</IsTruncated>" not in body:
                return

    async def _send(
        self,
        method: str,
        url: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        most: int = -1,
    ) -> tuple[int, bytes]:
        """Send one request; of a success `most` bytes are read, or all."""
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
                size = most if answer.status < 300 else REFUSAL_SIZE
                return answer.status, await _read(answer, size)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StorageUnavailable(
                f"{self.storage.where} does not answer: {_failure(error)}"
            ) from error

    def _refusal(self, status: int, body: bytes, key: str) -> StorageError:
        code, where = _code(body), self.storage.where
        words = f"{key} in {where}: refused ({f'{code}, ' if code else ''}HTTP {status})"
        if code == "NoSuchBucket":
            return BucketNotFound(f"there is no {where}: create it, or name another one")
        if code in DENIED or status == 403:
            return AccessDenied(words)
        if status >= 500 or code == "SlowDown" or status in (408, 429):
            return StorageUnavailable(words)
        return StorageError(words)


def _failure(error: Exception) -> str:
    """What went wrong, without what the other side said and without the signed URL."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    words = str(error) if isinstance(error, OSError) else ""
    return words or type(error).__name__


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    if most < 0:
        return await answer.read()
    pieces, left = [], most
    while left > 0 and (piece := await answer.content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if left == 0:
        answer.close()  # the rest is not for us
    return b"".join(pieces)


def _url(text: str) -> Any:
    """A signed URL, byte for byte: another quoting would break the signature."""
    from yarl import URL

    return URL(text, encoded=True)


def _code(body: bytes) -> str:
    """S3's word for what went wrong; anything that is not one word is not repeated."""
    match = re.search(rb"<Code>([A-Za-z0-9]{1,64})</Code>", body[:REFUSAL_SIZE])
    return match.group(1).decode() if match else ""


def _keys(body: bytes) -> list[str]:
    """The keys of a list's page."""
    found = [key.decode(errors="replace") for key in re.findall(rb"<Key>([^<]*)</Key>", body)]
    if b"<EncodingType>url</EncodingType>" in body:
        return [unquote_plus(key) for key in found]
    return [html.unescape(key) for key in found]
