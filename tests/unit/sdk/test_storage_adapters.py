"""Every adapter does what `shoal.storage.base` says; S3 against a real MinIO."""

from __future__ import annotations

import io
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from conftest import Minio, free_port
from shoal.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigurationError,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
)
from shoal.storage import FileStorage, S3Storage, Storage


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "file":
        yield FileStorage(tmp_path / "bucket", make=True)
        return
    found = request.getfixturevalue("minio").bucket("adapters")
    yield found
    found.delete(*[info.key for info in found.list("")])


def test_is_a_storage(storage: Storage) -> None:
    assert isinstance(storage, Storage)
    storage.check()


def test_gives_back_what_was_put(storage: Storage) -> None:
    storage.put("a/b", b"first")
    storage.put("a/b", b"second")
    assert storage.get("a/b") == b"second"
    assert storage.exists("a/b")
    assert not storage.exists("a/c")
    assert not storage.exists("a")


def test_an_empty_object_is_an_object(storage: Storage) -> None:
    storage.put("empty", b"")
    assert storage.get("empty") == b""
    assert list(storage.stream("empty")) == []


def test_a_missing_object_is_named(storage: Storage) -> None:
    with pytest.raises(ObjectNotFound, match="some/key"):
        storage.get("some/key")
    with pytest.raises(ObjectNotFound, match="some/key"):
        storage.get_range("some/key", 0, 1)
    with pytest.raises(ObjectNotFound, match="some/key"):
        list(storage.stream("some/key"))
    assert storage.info("some/key") is None


def test_a_renewed_object_is_young_and_the_same(storage: Storage) -> None:
    storage.put("old", b"content")
    before = storage.info("old")
    assert before is not None
    time.sleep(1.1)  # buckets tell times in seconds
    storage.renew("old")
    after = storage.info("old")
    assert after is not None
    assert after.modified > before.modified
    assert storage.get("old") == b"content"
    with pytest.raises(ObjectNotFound, match="some/key"):
        storage.renew("some/key")


def test_ranges(storage: Storage) -> None:
    storage.put("letters", b"abcdefghij")
    assert storage.get_range("letters", 0, 3) == b"abc"
    assert storage.get_range("letters", 7, 100) == b"hij"
    assert storage.get_range("letters", 2, 0) == b""


def test_streams_more_than_one_part(storage: Storage) -> None:
    data = os.urandom(1 << 20) * 20
    storage.put_stream("large", io.BytesIO(data), len(data))
    info = storage.info("large")
    assert info is not None
    assert info.size == len(data)
    assert b"".join(storage.stream("large")) == data


def test_a_stream_that_ends_early_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(StorageError):
        storage.put_stream("short", io.BytesIO(b"abc"), 10)
    assert not storage.exists("short")


def test_create_refuses_an_existing_key_and_keeps_its_content(storage: Storage) -> None:
    assert storage.create("ledger/0", b"first")
    assert not storage.create("ledger/0", b"second")
    assert storage.get("ledger/0") == b"first"


def test_of_many_creators_at_once_one_wins(storage: Storage) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda n: storage.create("contested", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert storage.get("contested") == b"%d" % won.index(True)


def test_deleting_is_idempotent(storage: Storage) -> None:
    for key in ("x/1", "x/2", "x/3"):
        storage.put(key, b"")
    storage.delete("x/1", "x/2", "missing")
    storage.delete("x/1")
    storage.delete()
    assert [info.key for info in storage.list("")] == ["x/3"]


def test_lists_by_prefix_in_order(storage: Storage) -> None:
    for key in ("jobs/b/1", "jobs/a/10", "jobs/a/2", "jobsx", "other"):
        storage.put(key, key.encode())
    assert [info.key for info in storage.list("jobs/")] == ["jobs/a/10", "jobs/a/2", "jobs/b/1"]
    assert [info.key for info in storage.list("jobs/a")] == ["jobs/a/10", "jobs/a/2"]
    assert [info.key for info in storage.list("nothing/")] == []
    assert {info.key: info.size for info in storage.list("other")} == {"other": 5}


def test_an_object_is_as_old_as_it_is(storage: Storage) -> None:
    storage.put("young", b"x")
    info = storage.info("young")
    assert info is not None
    assert 0 <= info.age_seconds < 30


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/../b", "a\\b", "./a"])
def test_a_key_that_could_lead_elsewhere_is_refused(storage: Storage, key: str) -> None:
    with pytest.raises(StorageError, match="can't be a key"):
        storage.put(key, b"x")
    with pytest.raises(StorageError, match="can't be a key"):
        storage.presign_get(key, seconds=60)


def test_a_signed_url_reads_without_a_key(storage: Storage) -> None:
    storage.put("shared object", b"content")
    with urllib.request.urlopen(storage.presign_get("shared object", seconds=60)) as answer:
        assert answer.read() == b"content"


def put(url: str, data: bytes, **headers: str) -> int:
    request = urllib.request.Request(url, data, headers, method="PUT")
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_signed_url_writes_once_when_asked_to(minio: Minio) -> None:
    storage = minio.bucket("adapters")
    url = storage.presign_put("signed", seconds=60)
    assert put(url, b"first", **{"If-None-Match": "*"}) == 200
    assert put(url, b"second", **{"If-None-Match": "*"}) == 412
    assert storage.get("signed") == b"first"


def test_a_signed_url_is_for_its_key_and_method_only(minio: Minio) -> None:
    storage = minio.bucket("adapters")
    storage.put("mine", b"x")
    url = storage.presign_get("mine", seconds=60)
    assert put(url, b"y") == 403
    assert put(url.replace("mine", "other"), b"y") == 403


def test_signing_asks_nobody_and_takes_no_time() -> None:
    storage = S3Storage("bbb", "http://192.0.2.1:9000", access_key="u", secret_key="p")
    storage.presign_get("warm/up", seconds=60)
    start = time.perf_counter()
    for number in range(200):
        storage.presign_put(f"jobs/{number}", seconds=3600)
    assert (time.perf_counter() - start) / 200 < 0.005


def test_signed_urls_list_and_remove(minio: Minio) -> None:
    storage = minio.bucket("listed")
    for key in ("a/1 2+3", "a/ä", "b/1"):
        storage.put(key, b"x")
    with urllib.request.urlopen(storage.presign_list("a/", seconds=60)) as answer:
        page = answer.read()
    assert b"<EncodingType>url</EncodingType>" in page
    assert [unquote_plus(key) for key in re.findall(r"<Key>(.*?)</Key>", page.decode())] == [
        "a/1 2+3",
        "a/ä",
    ]
    with urllib.request.urlopen(storage.presign_list("a/", after="a/1 2+3", seconds=60)) as answer:
        assert answer.read().count(b"<Key>") == 1
    url = storage.presign_delete("a/1 2+3", seconds=60)
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE")) as answer:
        assert answer.status == 204
    assert [info.key for info in storage.list("")] == ["a/ä", "b/1"]
    storage.delete("a/ä", "b/1")


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        (None, "us-east-1"),
        ("https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://s3.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://s3.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
        ("https://s3.eu-west-1.example.org", "us-east-1"),
        ("http://minio.default.svc:9000", "us-east-1"),
    ],
)
def test_signing_opens_no_connection(
    endpoint: str | None, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(socket.socket, "connect", asked)
    storage = S3Storage("bbb", endpoint, access_key="u", secret_key="p")
    assert f"%2F{region}%2Fs3%2F" in storage.presign_get("a/b", seconds=60)
    assert f"%2F{region}%2Fs3%2F" in storage.presign_put("a/b", seconds=60)


def test_a_region_that_is_named_counts() -> None:
    storage = S3Storage("bbb", access_key="u", secret_key="p", region="eu-west-3")
    assert "%2Feu-west-3%2Fs3%2F" in storage.presign_get("a/b", seconds=60)


def test_a_missing_bucket(minio: Minio) -> None:
    storage = minio.bucket("missing", make=False)
    for action in (storage.check, lambda: storage.put("a", b""), lambda: storage.get("a")):
        with pytest.raises(BucketNotFound, match="missing at http"):
            action()
    with pytest.raises(BucketNotFound):
        storage.create("a", b"")


def test_a_wrong_key(minio: Minio) -> None:
    minio.bucket("adapters")
    for wrong in ({"secret_key": "wrong"}, {"access_key": "wrong"}):
        storage = minio.bucket("adapters", make=False, **wrong)
        with pytest.raises(AccessDenied):
            storage.get("a")
        with pytest.raises(AccessDenied):
            storage.create("a", b"x")
        with pytest.raises(AccessDenied):
            storage.check()


def test_no_key_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minio: Minio) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AccessDenied, match="username_password_secret"):
        S3Storage("adapters", minio.endpoint).get("a")


def test_the_login_of_this_machine(monkeypatch: pytest.MonkeyPatch, minio: Minio) -> None:
    minio.bucket("adapters").put("a", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing-user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-password")
    assert S3Storage("adapters", minio.endpoint).get("a") == b"x"


def test_nobody_listens() -> None:
    storage = S3Storage("bbb", f"http://127.0.0.1:{free_port()}", access_key="u", secret_key="p")
    start = time.monotonic()
    with pytest.raises(StorageUnavailable, match="bucket bbb at http://127"):
        storage.get("a")
    with pytest.raises(StorageUnavailable):
        storage.create("a", b"x")
    assert time.monotonic() - start < 10


def test_somebody_listens_who_is_not_s3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n"
                    b"Content-Length: 2\r\n\r\nno"
                )

        serving = pool.submit(serve)
        port = server.getsockname()[1]
        storage = S3Storage("bbb", f"http://127.0.0.1:{port}", access_key="u", secret_key="p")
        with pytest.raises(StorageError, match="bucket bbb at"):
            storage.get("a")
        serving.result()


@pytest.mark.parametrize("endpoint", ["host:9000", "http://", "ftp://host", "http://host/path"])
def test_an_endpoint_that_is_no_url(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a URL"):
        S3Storage("b", endpoint)


def test_a_bucket_name_that_can_be_none(minio: Minio) -> None:
    with pytest.raises(ConfigurationError, match="B_"):
        S3Storage("B_", minio.endpoint, access_key="u", secret_key="p").get("a")


def test_a_folder_by_url_and_a_folder_that_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    FileStorage(folder.as_uri()).put("a", b"x")
    assert (folder / "a").read_bytes() == b"x"
    with pytest.raises(BucketNotFound, match="create it"):
        FileStorage(tmp_path / "missing").put("a", b"x")


def test_a_folder_keeps_nothing_unfinished(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    storage.put("a/b", b"x")
    storage.create("a/b", b"y")
    storage.delete("a/b")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "a").exists()
