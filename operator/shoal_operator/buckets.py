"""Opens buckets, and keeps those that are open: whose key, which endpoint, and is it fit.

A bucket is opened once (its key read, its conditional writes proved) and then shared by the jobs
that use it. The operator's own key serves only the bucket that the chart names; a job that names
another one needs a Secret of its own namespace, and its endpoint is none of our own machine.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import socket
import time
from collections.abc import Collection
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shoal.errors import AccessDenied, ApiError, BucketNotFound, StorageError, StorageUnavailable
from shoal.kube import SECRETS, Client
from shoal.storage import S3Storage

from .bucket import Bucket
from .reasons import Reason
from .resolve import Problem, Storage, default_storage, is_forbidden
from .settings import Settings

logger = logging.getLogger(__name__)

KEY_SECONDS = 300.0
"""A Secret's content is read again after so long."""
UNUSED_SECONDS = 60.0
"""A bucket that no job uses is kept open for so long."""

MAKE_SECONDS = 0.5
"""Between two tries to make the chart's own bucket."""


class BucketProblem(Exception):
    """A bucket can't be used; `problem` says why, in the words of a condition."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

    def as_storage_error(self) -> StorageError:
        """The same, as one who only writes and reads expects it."""
        words = self.problem.message
        if self.problem.reason is Reason.BUCKET_NOT_FOUND:
            return BucketNotFound(words)
        if self.problem.reason is Reason.ACCESS_DENIED:
            return AccessDenied(words)
        return StorageUnavailable(words)


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
        for task in self._opening.values():
            task.cancel()
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
        return await asyncio.shield(self._begin(storage))

    async def make_own(self) -> None:
        """Open the chart's bucket, which creates it where it is missing; try until it is open."""
        own = default_storage(self._settings)
        while True:
            try:
                await self.open(own)
                return
            except BucketProblem:  # `_opened` has logged it
                await asyncio.sleep(MAKE_SECONDS)

    def known(self, storage: Storage) -> Bucket | None:
        """Return the bucket if it is open, at once; its key is read again beside when it is old."""
        bucket, now = self._open.get(storage), time.monotonic()
        if bucket is None:
            self._begin(storage)
        elif now - bucket.asked >= KEY_SECONDS:
            bucket.asked = now
            self._begin(storage)
        return bucket

    def forget(self, storage: Storage, refused: Bucket | None = None) -> None:
        """Read the key again at the next use: the bucket `refused` the one that we had."""
        if refused is None or self._open.get(storage) is refused:
            self._open.pop(storage, None)

    def keep(self, used: Collection[Storage]) -> None:
        """Let go of the buckets that no job uses."""
        own, now = default_storage(self._settings), time.monotonic()
        for storage, bucket in list(self._open.items()):
            if storage not in used and storage != own and now - bucket.opened > UNUSED_SECONDS:
                del self._open[storage]
        self._proved &= {(one.storage.endpoint, one.storage.bucket) for one in self._open.values()}

    def _begin(self, storage: Storage) -> asyncio.Task[Bucket]:
        task = self._opening.get(storage)
        if task is None:
            task = self._opening[storage] = asyncio.create_task(self._prepare(storage))
            task.add_done_callback(lambda done: self._opened(storage, done))
        return task

    def _opened(self, storage: Storage, done: asyncio.Task[Bucket]) -> None:
        self._opening.pop(storage, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.info("bucket %s can't be opened: %s", storage.bucket, error)

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
        bucket = Bucket(s3, self._session(guarded=not own), guarded=not own)
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
            and storage.prefix == own.prefix  # or one namespace could reach into another's keys
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
        await bucket.delete(key)
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


def _make_bucket(storage: S3Storage) -> None:
    from minio.error import S3Error

    client: Any = storage._client
    try:
        client.make_bucket(storage.bucket)
    except S3Error as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise StorageUnavailable(f"{storage.where} can't be made: {error}") from error
