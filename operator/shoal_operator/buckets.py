"""Buckets as the operator uses them: on presigned URLs, over one HTTP session, with deadlines.

A bucket is opened once (its key read, its conditional writes proved) and then shared by the jobs
that use it; each job gets a `JobBucket`, which refuses every key outside of the job's own part.
The operator's own key serves only the bucket that the chart names; a job that names another one
needs a Secret of its own namespace.

Conditional writes go out as presigned PUTs with `If-None-Match: *`. Every attempt has a deadline
that closes its socket, since a half-sent conditional PUT may hold the store's lock on the key.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shoal.errors import (
    AccessDenied,
    ApiError,
    BucketNotFound,
    StorageError,
    StorageUnavailable,
)
from shoal.kube import SECRETS, Client
from shoal.storage import S3Storage

from .events import Reason
from .resolve import Problem, Storage, default_storage, is_forbidden
from .settings import Settings

URL_SECONDS = 6 * 3600.0
CONNECT_SECONDS = 3.0
ATTEMPT_SECONDS = 5.0
SLOWEST = 2 << 20
"""Bytes a second below which a transfer counts as stuck."""
KEY_SECONDS = 300.0
"""A Secret's content is read again after so long."""
DENIED = frozenset(
    {
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "ExpiredToken",
        "AllAccessDisabled",
    }
)


class BucketProblem(Exception):
    """A bucket can't be used; `problem` says why, in the words of a condition."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


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


class Buckets:
    """Opens buckets, and keeps those that are open."""

    def __init__(self, api: Client, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._open: dict[Storage, Bucket] = {}
        self._opening: dict[Storage, asyncio.Task[Bucket]] = {}
        self._proved: set[tuple[str, str]] = set()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def open(self, storage: Storage) -> Bucket:
        """Return the bucket, proved to be usable.

        Raises:
            BucketProblem: it can't be used, and why.
        """
        bucket = self._open.get(storage)
        if bucket is not None and (
            not storage.secret or time.monotonic() - bucket.opened < KEY_SECONDS
        ):
            return bucket
        task = self._opening.get(storage)
        if task is None:
            task = self._opening[storage] = asyncio.create_task(self._prepare(storage))
            task.add_done_callback(lambda _: self._opening.pop(storage, None))
        return await asyncio.shield(task)

    def forget(self, storage: Storage) -> None:
        """Read the key again at the next use: the bucket refused the one that we had."""
        self._open.pop(storage, None)

    async def _prepare(self, storage: Storage) -> Bucket:
        own = self._is_default(storage)
        keys = await self._keys(storage, own=own)
        endpoint = storage.endpoint_in_cluster or storage.endpoint
        if own:
            chosen = self._settings
            endpoint = chosen.default_endpoint_in_cluster or chosen.default_endpoint
        s3 = S3Storage(
            storage.bucket,
            endpoint or None,
            access_key=keys[0],
            secret_key=keys[1],
            region=storage.region or None,
        )
        bucket = Bucket(s3, self._session(guarded=not own))
        try:
            await self._prove(bucket, storage, own=own)
        except BucketNotFound as error:
            raise BucketProblem(Problem(Reason.BUCKET_NOT_FOUND, str(error))) from error
        except AccessDenied as error:
            raise BucketProblem(Problem(Reason.ACCESS_DENIED, str(error))) from error
        except StorageError as error:
            patience = self._settings.missing_seconds
            raise BucketProblem(
                Problem(Reason.STORAGE_UNAVAILABLE, str(error), patience)
            ) from error
        self._open[storage] = bucket
        return bucket

    def _is_default(self, storage: Storage) -> bool:
        """Whether it is the chart's bucket, which the operator's own key serves."""
        own = default_storage(self._settings)
        endpoints = {own.endpoint, own.endpoint_in_cluster}
        return (
            bool(own.bucket)
            and storage.bucket == own.bucket
            and storage.endpoint in endpoints
            and storage.endpoint_in_cluster in {*endpoints, ""}
        )

    async def _keys(self, storage: Storage, *, own: bool) -> tuple[str, str]:
        if own:
            namespace, name = self._settings.namespace, self._settings.bucket_secret
        else:
            namespace, name = storage.namespace, storage.secret
        patience = self._settings.missing_seconds
        if not name:
            raise BucketProblem(
                Problem(
                    Reason.SECRET_NOT_FOUND,
                    f"spec.storage names bucket {storage.bucket}, but no secretName: name a Secret "
                    f"of namespace {namespace} with the keys username and password",
                )
            )
        try:
            secret = await self._api.get(SECRETS, name, namespace)
        except ApiError as error:
            if error.status == 404:
                text = f"Secret {name} does not exist in namespace {namespace}"
            elif error.status == 403:
                text = (
                    f"the operator may not read Secret {name} in namespace {namespace}: "
                    "add it to the chart's value storage.secretNames"
                )
            else:
                text, patience = f"Secret {namespace}/{name}: {error}", max(patience, 300.0)
            raise BucketProblem(Problem(Reason.SECRET_NOT_FOUND, text, patience)) from error
        data = secret.get("data") or {}
        try:
            return tuple(  # type: ignore[return-value]
                base64.b64decode(data[key]).decode().strip() for key in ("username", "password")
            )
        except (KeyError, ValueError) as error:
            raise BucketProblem(
                Problem(
                    Reason.SECRET_NOT_FOUND,
                    f"Secret {namespace}/{name} must have the keys username and password",
                    patience,
                )
            ) from error

    async def _prove(self, bucket: Bucket, storage: Storage, *, own: bool) -> None:
        """Create an object twice: the second time must be refused."""
        place = (bucket.storage.endpoint, bucket.storage.bucket)
        head = f"{storage.prefix}/" if storage.prefix else ""
        key = f"{head}{self._settings.cluster_id}/.proof/{secrets.token_hex(12)}"
        try:
            first = await bucket.create(key, b"first")
        except BucketNotFound:
            if not (own and self._settings.create_bucket):
                raise
            await asyncio.to_thread(_make_bucket, bucket.storage)
            first = await bucket.create(key, b"first")
        if place in self._proved:
            second = False
        else:
            second = await bucket.create(key, b"second")
        await asyncio.to_thread(bucket.storage.delete, key)
        if not first or second:
            raise BucketProblem(
                Problem(
                    Reason.CONDITIONAL_WRITES_UNSUPPORTED,
                    f"{bucket.storage.where} ignores If-None-Match: an object was written twice. "
                    "Shoal needs a store with conditional writes",
                )
            )
        self._proved.add(place)

    def _session(self, *, guarded: bool) -> aiohttp.ClientSession:
        """The session for the chart's bucket, or the one that shuns our own machine."""
        session = self._sessions.get(guarded)
        if session is None or session.closed:
            resolver = GuardedResolver() if guarded else None
            connector = aiohttp.TCPConnector(limit=200, keepalive_timeout=30, resolver=resolver)
            session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
            self._sessions[guarded] = session
        return session


class GuardedResolver(AbstractResolver):
    """Resolves names, but to no loopback or link-local address."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`; OSError if one is of our own machine."""
        found = await self._inner.resolve(host, port, family)
        for entry in found:
            address = entry["host"]
            if is_forbidden(f"//[{address}]" if ":" in address else f"//{address}"):
                raise OSError(f"{host} resolves to {address}, a loopback or link-local address")
        return found

    async def close(self) -> None:
        """Close what was opened."""
        await self._inner.close()


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


def _make_bucket(storage: S3Storage) -> None:
    from minio.error import S3Error

    client: Any = storage._client
    try:
        client.make_bucket(storage.bucket)
    except S3Error as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise StorageUnavailable(f"{storage.where} can't be made: {error}") from error


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
