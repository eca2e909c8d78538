"""The bucket is away for a while, as a client meets it while it reads or submits."""

from __future__ import annotations

import asyncio
import logging
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shoal
from conftest import free_port
from shoal import ledger, manifests, outages, packing, submission
from shoal.cluster_runs import ClusterRun
from shoal.errors import (
    AccessDenied,
    ApiUnreachable,
    BucketNotFound,
    ObjectNotFound,
    StorageUnavailable,
)
from shoal.ledger import Entry
from shoal.log_reader import LogReader
from shoal.outages import Outage, insist
from shoal.storage import FileStorage, S3Storage
from shoal.worker import frames
from shoal.worker import inputs as worker_inputs
from shoal.worker.records import Record


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PAUSES", (0.0,))


class Flaky:
    """Reads that fail so many times, and then succeed."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.left, self.calls = times, 0
        self.error = error or StorageUnavailable("bucket b at http://h:1: connection refused")

    async def read(self) -> bytes:
        return self.write()

    def write(self) -> bytes:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return b"there"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "shoal"]


async def test_a_read_waits_for_the_bucket_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("jobs.shoal.dev/x")
    flaky = [Flaky(5), Flaky(7)]
    assert await asyncio.gather(*(outage.outlast(one.read) for one in flaky)) == [b"there"] * 2
    [line] = said(caplog)
    assert line.startswith("jobs.shoal.dev/x waits (300 s at the most): StorageUnavailable: bucket")


async def test_an_api_server_that_is_asked_for_the_buckets_key_is_waited_for_too() -> None:
    flaky = Flaky(2, ApiUnreachable(0, "Unreachable", "no answer"))
    assert await Outage("x").outlast(flaky.read) == b"there"


@pytest.mark.parametrize(
    "error",
    [AccessDenied("no"), ObjectNotFound("no"), BucketNotFound("no")],
    ids=lambda error: type(error).__name__,
)
async def test_what_does_not_heal_is_not_waited_for(error: Exception) -> None:
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        await Outage("x").outlast(flaky.read)
    assert flaky.calls == 1


async def test_the_bucket_is_given_up_after_its_time() -> None:
    flaky = Flaky(1_000_000)
    with pytest.raises(StorageUnavailable):
        await Outage("x", seconds=0.05).outlast(flaky.read)
    assert flaky.calls > 1


async def test_each_outage_has_all_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 40))
    monkeypatch.setattr(outages.time, "monotonic", lambda: next(now))
    outage = Outage("x", seconds=300)
    for _ in range(5):
        assert await outage.outlast(Flaky(2).read) == b"there"


def test_an_upload_is_tried_again_for_some_seconds() -> None:
    flaky = Flaky(3)
    assert insist(flaky.write) == b"there"
    assert flaky.calls == 4
    with pytest.raises(StorageUnavailable):
        insist(Flaky(1_000_000).write, seconds=0.01)
    denied = Flaky(1, AccessDenied("no"))
    with pytest.raises(AccessDenied):
        insist(denied.write)
    assert denied.calls == 1


class FailsAtFirst(FileStorage):
    """Each key is refused once, half of it read already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refused: set[str] = set()

    def put_stream(self, key: str, file: Any, size: int) -> None:
        self._refuse(key, lambda: file.read(size // 2))
        super().put_stream(key, file, size)

    def put(self, key: str, data: bytes) -> None:
        self._refuse(key, lambda: None)
        super().put(key, data)

    def _refuse(self, key: str, first: Callable[[], object]) -> None:
        if key not in self.refused:
            self.refused.add(key)
            first()
            raise StorageUnavailable("for a moment")


def test_items_whose_upload_was_cut_go_up_from_their_start(tmp_path: Path) -> None:
    storage = FailsAtFirst(tmp_path)
    items = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - its reader closes it
    items.write(b"0123456789")
    items.seek(0)
    inputs = packing.PackedInputs(
        job=b"job", sha256="0" * 64, count=1, items=items, items_size=10, python="3.11"
    )
    prepared = manifests.Prepared(None, "1", inputs, shoal.Deployment())  # type: ignore[arg-type]
    submission._upload(storage, "c/n", "c/n/jobs/1", prepared)
    assert storage.get("c/n/jobs/1/inputs/items") == b"0123456789"
    assert storage.get("c/n/jobs/1/inputs/job") == b"job"
    assert len(storage.refused) == 2


class FlakyBucket(FileStorage):
    """Each object is away at first."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.times, self.reads = times, 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        if self.reads <= self.times:
            raise StorageUnavailable("not now")
        return super().get(key)


class Here:
    """A place whose bucket is a folder."""

    namespace, prefix = "n", "c/n"

    def __init__(self, storage: FileStorage) -> None:
        self.storage = storage

    async def bucket(self, api: object, what: str) -> FileStorage:
        return self.storage


async def test_a_run_on_a_cluster_is_read_on_when_the_bucket_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record(0, 1, "SUCCEEDED", "pickle", pickle.dumps("the result"))
    raw = ledger.seal(Entry(n=0, prev=ledger.GENESIS, records=[record]), "me", b"s" * 32)
    storage = FlakyBucket(tmp_path, times=5)
    storage.put("c/n/jobs/1/ledger/00000000", raw)
    storage.put("c/n/jobs/1/logs/00000000", frames.pack({"lines": [[0, 1, "p"]]}, [b"hello\n"]))
    done = {"type": "Finished", "status": "True", "reason": "Complete", "message": "done"}
    status = {
        "id": "1",
        "phase": "Complete",
        "ledger": {"length": 1, "digest": ledger.digest_of(raw)},
        "logs": {"length": 1},
        "conditions": [done],
    }
    made = {"metadata": {"name": "x", "uid": "u"}, "spec": {"function": {}}, "status": status}
    run = ClusterRun(None, Here(storage), "function", made, object())  # type: ignore[arg-type]
    events = [event async for event in run.events(logs=True)]
    assert [type(event).__name__ for event in events] == [
        "Printed",
        "Accepted",
        "Observed",
        "Ended",
    ]
    assert storage.reads == 7
    assert len(said(caplog)) == 1


CHUNK = frames.pack({"lines": [[0, 1, "p"]]}, [b"hello"])


@pytest.mark.parametrize(
    "bad",
    [None, b"", b"junk", CHUNK[:-1], frames.pack({"lines": [[0, 1, "p"]]}), frames.pack({})],
    ids=["missing", "empty", "other", "cut", "fewer", "headless"],
)
async def test_a_part_of_the_output_that_cannot_be_read_is_passed_over(
    bad: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    objects = {f"p/logs/{n:08d}": CHUNK for n in range(20)}
    for n in (3, 4, 17):
        if bad is None:
            del objects[f"p/logs/{n:08d}"]
        else:
            objects[f"p/logs/{n:08d}"] = bad

    async def get(key: str) -> bytes:
        if key not in objects:
            raise ObjectNotFound(f"{key} is not there")
        return objects[key]

    reader = LogReader(get, "p", "jobs.shoal.dev/x")
    chunks = [printed async for printed in reader.read(20)]
    assert [n for n, printed in enumerate(chunks) if not printed.outputs] == [3, 4, 17]
    [line] = said(caplog)
    assert line.startswith("jobs.shoal.dev/x: a part of its output can't be read")


def test_the_http_library_says_nothing_of_its_own_attempts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        nobody = f"http://127.0.0.1:{free_port()}"
        storage = S3Storage("bbb", nobody, access_key="u", secret_key="p")
        with pytest.raises(StorageUnavailable):
            storage.get("a")
        library = "urllib3.connectionpool"
        logging.getLogger(library).warning("of somebody else")
    said_there = [record.getMessage() for record in caplog.records if record.name == library]
    assert said_there == ["of somebody else"]


def test_a_worker_waits_for_inputs_longer_than_a_client_tries_to_upload_them() -> None:
    assert worker_inputs.ARRIVAL_SECONDS >= 2 * outages.UPLOAD_SECONDS
