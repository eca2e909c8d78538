"""The parts of code go into the bucket once, and stay there."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import Minio
from shoal import code_upload
from shoal.code_upload import GRACE_SECONDS, code_key, is_known, upload
from shoal.deployment import CodePart, MirroredCode
from shoal.errors import AccessDenied, ObjectNotFound, StorageError, StorageUnavailable
from shoal.storage import FileStorage


def code_of(*archives: bytes) -> MirroredCode:
    parts = tuple(CodePart(data, hashlib.sha256(data).hexdigest()) for data in archives)
    return MirroredCode(parts, ("0/here",), "0/here", len(parts), sum(map(len, archives)))


CODE = code_of(b"one", b"two", b"three")


class Counting(FileStorage):
    """A folder that notes what was asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, make=True)
        self.asked: list[tuple[str, str]] = []

    def info(self, key: str) -> Any:
        self.asked.append(("info", key))
        return super().info(key)

    def put(self, key: str, data: bytes) -> None:
        self.asked.append(("put", key))
        super().put(key, data)

    def sent(self) -> list[str]:
        """Return the digests that were put since the last look, and forget them."""
        found = [key.rpartition("/")[2] for verb, key in self.asked if verb == "put"]
        self.asked.clear()
        return found


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "bucket")


def test_every_part_goes_up_once_and_is_not_asked_for_again(storage: Counting) -> None:
    assert not is_known(CODE, storage, "cluster/namespace")
    upload(CODE, storage, "cluster/namespace")
    assert sorted(storage.sent()) == sorted(part.sha256 for part in CODE.parts)
    for part in CODE.parts:
        assert storage.get(f"cluster/namespace/code/{part.sha256}") == part.archive
    assert is_known(CODE, storage, "cluster/namespace")
    upload(CODE, storage, "cluster/namespace")
    assert storage.asked == []


def test_only_the_part_that_changed_goes_up(storage: Counting) -> None:
    upload(CODE, storage, "p")
    storage.sent()
    changed = code_of(b"one", b"TWO", b"three")
    assert not is_known(changed, storage, "p")
    upload(changed, storage, "p")
    assert [verb for verb, _ in storage.asked] == ["info", "put"]
    assert storage.sent() == [changed.parts[1].sha256]


def test_what_another_process_has_uploaded_stays_where_it_is(storage: Counting) -> None:
    upload(CODE, storage, "p")
    code_upload.forget_uploads()
    storage.sent()
    upload(CODE, storage, "p")
    assert storage.sent() == []
    assert is_known(CODE, storage, "p")


def test_one_code_serves_two_buckets_and_two_namespaces(storage: Counting, tmp_path: Path) -> None:
    other = Counting(tmp_path / "other")
    for where, prefix in ((storage, "a"), (storage, "b"), (other, "a")):
        upload(CODE, where, prefix)
        assert len(where.sent()) == 3


def test_a_part_that_was_removed_goes_up_again_after_a_job_did_not_find_it(
    storage: Counting,
) -> None:
    upload(CODE, storage, "p")
    storage.sent()
    storage.delete(code_key("p", CODE.parts[2].sha256))
    upload(CODE, storage, "p")
    assert storage.sent() == [], "it was looked for although it is known to be there"
    code_upload.forget_uploads()
    upload(CODE, storage, "p")
    assert storage.sent() == [CODE.parts[2].sha256]


@pytest.mark.parametrize(("age", "renewed"), [(GRACE_SECONDS / 8, False), (GRACE_SECONDS, True)])
def test_what_is_old_is_renewed_before_a_sweep_takes_it_and_not_sent(
    storage: Counting, age: float, renewed: bool
) -> None:
    upload(CODE, storage, "p")
    path = storage.root / code_key("p", CODE.parts[0].sha256)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    code_upload.forget_uploads()
    storage.sent()
    upload(CODE, storage, "p")
    assert (path.stat().st_mtime > then) is renewed
    assert storage.sent() == []


@pytest.mark.parametrize("error", [ObjectNotFound, AccessDenied])
def test_what_the_sweep_takes_at_that_moment_or_cannot_be_copied_is_sent(
    storage: Counting, monkeypatch: pytest.MonkeyPatch, error: type[StorageError]
) -> None:
    upload(CODE, storage, "p")
    key = code_key("p", CODE.parts[0].sha256)
    os.utime(storage.root / key, (0, 0))
    code_upload.forget_uploads()
    storage.sent()

    def refused(key: str) -> None:
        raise error(key)

    monkeypatch.setattr(storage, "renew", refused)
    upload(CODE, storage, "p")
    assert storage.sent() == [CODE.parts[0].sha256]
    assert (storage.root / key).stat().st_mtime > 0


def test_parts_go_up_at_the_same_time(storage: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=10)
    put = storage.put
    monkeypatch.setattr(storage, "put", lambda key, data: (together.wait(), put(key, data)))
    upload(CODE, storage, "p")
    assert len(storage.sent()) == 3


def test_a_second_attempt_sends_what_the_first_one_could_not(
    storage: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(key: str, data: bytes) -> None:
        if data == b"two":
            raise StorageUnavailable("away")
        Counting.put(storage, key, data)

    monkeypatch.setattr(storage, "put", put)
    with pytest.raises(StorageUnavailable):
        upload(CODE, storage, "p")
    assert not is_known(CODE, storage, "p")
    storage.sent()
    monkeypatch.undo()
    upload(CODE, storage, "p")
    assert CODE.parts[1].sha256 in storage.sent()
    assert all(storage.exists(code_key("p", part.sha256)) for part in CODE.parts)


def test_the_log_says_how_much_went_up(storage: Counting, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shoal")
    upload(code_of(b"x" * 1_000_000, b"y" * 500_000), storage, "p")
    upload(code_of(b"x" * 1_000_000, b"z" * 500_000), storage, "p")
    assert [record.message for record in caplog.records] == [
        "code: 2 files of 1.5 MB, packed 1.5 MB in 2 parts: 1.5 MB of it uploaded",
        "code: 2 files of 1.5 MB, packed 1.5 MB in 2 parts: 0.5 MB of it uploaded",
    ]


def test_uploads_to_s3(minio: Minio) -> None:
    storage = minio.bucket("code")
    upload(CODE, storage, "p")
    for part in CODE.parts:
        assert storage.get(code_key("p", part.sha256)) == part.archive
