"""Buckets that jobs name: nobody is led elsewhere, nothing is read out, a new key is taken up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote_plus

import pytest
from aiohttp import web
from parts import Api, operator

from shoal.errors import AccessDenied, StorageError, StorageUnavailable
from shoal_operator import buckets as module
from shoal_operator.buckets import BucketProblem, Buckets
from shoal_operator.jobbucket import JobBucket
from shoal_operator.resolve import Storage
from shoal_operator.settings import Settings


class S3:
    """A bucket that takes one key, of a server on this machine."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.user = "first"
        self.asked: list[tuple[str, str]] = []
        self.redirect = ""
        self.refusal: tuple[int, bytes] | None = None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        method, key = request.method, request.path.removeprefix("/tenants/")
        self.asked.append((method, key))
        if self.redirect:
            return web.Response(status=307, headers={"Location": self.redirect})
        if self.refusal is not None:
            return web.Response(status=self.refusal[0], body=self.refusal[1])
        if not request.query["X-Amz-Credential"].startswith(f"{self.user}/"):
            return web.Response(status=403, text="<Code>InvalidAccessKeyId</Code>")
        if "list-type" in request.query:
            return self._list(request.query["prefix"], request.query.get("start-after", ""))
        if method == "PUT":
            if key in self.objects and request.headers.get("If-None-Match") == "*":
                return web.Response(status=412)
            self.objects[key] = await request.read()
            return web.Response()
        if method == "DELETE":
            return web.Response(status=204 if self.objects.pop(key, None) is not None else 404)
        return (
            web.Response(body=self.objects[key])
            if key in self.objects
            else web.Response(status=404, text="<Code>NoSuchKey</Code>")
        )

    def _list(self, prefix: str, after: str) -> web.Response:
        found = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        keys = "".join(f"<Key>{quote_plus(key)}</Key>" for key in found[:2])
        more = str(len(found) > 2).lower()
        return web.Response(
            text=f"<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{keys}"
        )


@asynccontextmanager
async def serving(handler: object) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    made = S3()
    async with serving(made) as made.endpoint:  # type: ignore[attr-defined]
        yield made


def set_key(api: Api, user: str) -> None:
    data = {"username": user, "password": "secret"}
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    api.add("secrets", {"metadata": {"name": "key", "namespace": "default"}, "data": encoded})


@pytest.fixture
def api() -> Api:
    made = Api()
    set_key(made, "first")
    return made


@pytest.fixture
async def buckets(api: Api, settings: Settings) -> AsyncIterator[Buckets]:
    made = operator(api, settings)[0].buckets
    yield made
    await made.close()


@pytest.fixture
def storage(s3: S3) -> Storage:
    return Storage(
        bucket="tenants",
        endpoint=s3.endpoint,  # type: ignore[attr-defined]
        secret="key",
        namespace="default",
    )


async def test_opening_leaves_nothing_behind(s3: S3, buckets: Buckets, storage: Storage) -> None:
    bucket = await buckets.open(storage)
    assert bucket.guarded
    assert s3.objects == {}
    assert [method for method, _ in s3.asked] == ["PUT", "PUT", "DELETE"]


async def test_all_pages_of_a_prefix_are_cleared_and_nothing_else(
    s3: S3, buckets: Buckets, storage: Storage
) -> None:
    bucket = await buckets.open(storage)
    s3.objects = {f"a/{n} +&": b"" for n in range(5)} | {"b/1": b""}
    await bucket.clear("a/")
    assert list(s3.objects) == ["b/1"]


async def test_no_request_is_led_elsewhere(s3: S3, buckets: Buckets, storage: Storage) -> None:
    bucket = await buckets.open(storage)
    elsewhere: list[str] = []

    async def inside(request: web.BaseRequest) -> web.StreamResponse:
        elsewhere.append(request.path)
        return web.Response(text="private")

    async with serving(inside) as s3.redirect:
        for action in (
            bucket.create("a", b""),
            bucket.put("a", b""),
            bucket.get("a"),
            bucket.delete("a"),
            bucket.clear("a/"),
        ):
            with pytest.raises(StorageError, match="HTTP 307"):
                await action
        with pytest.raises(BucketProblem):
            await buckets.open(Storage(**{**_fields(storage), "prefix": "new"}))
    assert elsewhere == []


def _fields(storage: Storage) -> dict[str, str]:
    return {**storage.status(), "secret": storage.secret, "namespace": storage.namespace}


@pytest.mark.parametrize(
    "body",
    [
        b"the password of the database",
        b"<Code>the password</Code><Message>of the database</Message>",
        b"<Error><Code>Odd</Code><Message>the password</Message></Error>" + b"x" * 1_000_000,
    ],
)
async def test_what_an_endpoint_says_is_not_repeated(
    s3: S3, buckets: Buckets, storage: Storage, body: bytes
) -> None:
    s3.refusal = (400, body)
    with pytest.raises(BucketProblem, match="HTTP 400") as caught:
        await buckets.open(storage)
    assert "password" not in str(caught.value)


async def test_what_is_no_http_is_not_repeated(buckets: Buckets, storage: Storage) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the password\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        other = Storage(**{**_fields(storage), "endpoint": f"http://127.0.0.1:{port}"})
        with pytest.raises(BucketProblem) as caught:
            await buckets.open(other)
    assert caught.value.problem.reason == "StorageUnavailable"
    assert "password" not in str(caught.value)
    assert "X-Amz" not in str(caught.value)


async def test_a_key_that_was_changed_reaches_a_running_job(
    api: Api, s3: S3, buckets: Buckets, storage: Storage
) -> None:
    part = JobBucket(buckets, storage, await buckets.open(storage), "jobs/1/")
    assert await part.create("jobs/1/ledger/1", b"x")
    s3.user = "second"
    with pytest.raises(AccessDenied):
        await part.create("jobs/1/ledger/2", b"y")
    set_key(api, "second")
    assert await part.create("jobs/1/ledger/2", b"y")
    assert "second%2F" in part.url_to_get("jobs/1/inputs/job")


async def test_a_key_is_read_again_beside_the_work(
    api: Api, s3: S3, buckets: Buckets, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = JobBucket(buckets, storage, await buckets.open(storage), "jobs/1/")
    s3.user = "second"
    set_key(api, "second")
    monkeypatch.setattr(module, "KEY_SECONDS", 0.0)
    assert "first%2F" in part.url_to_get("jobs/1/inputs/job")
    async with asyncio.timeout(5):
        while "second%2F" not in part.url_to_get("jobs/1/inputs/job"):
            await asyncio.sleep(0.001)


async def test_a_running_job_outlives_a_missing_secret(
    api: Api, buckets: Buckets, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = JobBucket(buckets, storage, await buckets.open(storage), "jobs/1/")
    api.objects.clear()
    monkeypatch.setattr(module, "KEY_SECONDS", 0.0)
    assert await part.create("jobs/1/ledger/1", b"x")
    buckets.forget(storage)
    with pytest.raises(StorageUnavailable, match="Secret key does not exist"):
        await part.create("jobs/1/ledger/2", b"x")
    assert "first%2F" in part.url_to_get("jobs/1/inputs/job")


async def test_buckets_that_no_job_uses_are_let_go(
    buckets: Buckets, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = await buckets.open(storage)
    other = Storage(**{**_fields(storage), "prefix": "other"})
    await buckets.open(other)
    buckets.keep({storage})
    assert buckets.known(other) is not None  # it was opened a moment ago
    monkeypatch.setattr(module, "UNUSED_SECONDS", 0.0)
    buckets.keep({storage})
    assert buckets.known(storage) is used
    assert buckets.known(other) is None


async def test_a_job_is_signed_only_what_is_its_own(buckets: Buckets, storage: Storage) -> None:
    part = JobBucket(buckets, storage, await buckets.open(storage), "jobs/1/", "code/abc")
    part.url_to_get("code/abc")
    for key in ("jobs/2/a", "jobs/1/../2/a", "code/abcd", "code"):
        with pytest.raises(AccessDenied):
            part.url_to_get(key)
        with pytest.raises(AccessDenied):
            await part.create(key, b"")
