"""A run on a cluster, where the API server is a dict here and the bucket is a folder."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal import ledger
from shoal.cluster_runs import ClusterMachinery, ClusterRun
from shoal.errors import ApiError, ConfigurationError, JobDeleted, JobNotFound
from shoal.kube import MAPJOBS
from shoal.ledger import Entry
from shoal.storage import FileStorage
from shoal.worker.records import Record

RECORDS = [Record(n, 1, "SUCCEEDED", "pickle", pickle.dumps(n)) for n in range(6)]
FINISHED = {"type": "Finished", "status": "True", "reason": "Complete", "message": "done"}


class Api:
    """One mapjobs.shoal.dev, if there is one; `news` are its states, as a watch tells them."""

    def __init__(self) -> None:
        self.made: dict[str, Any] | None = {
            "metadata": {"name": "x", "uid": "u1", "resourceVersion": "1"},
            "spec": {"items": {"packed": {"count": len(RECORDS)}}},
        }
        self.news: list[dict[str, Any]] = []

    async def get(self, resource: Any, name: str, namespace: str) -> dict[str, Any]:
        if self.made is None or resource is not MAPJOBS:
            raise ApiError(404, "NotFound", "not found")
        return copy.deepcopy(self.made)

    async def patch(
        self, resource: Any, name: str, body: dict[str, Any], namespace: str
    ) -> dict[str, Any]:
        made = await self.get(resource, name, namespace)
        if body["metadata"]["uid"] != made["metadata"]["uid"]:
            raise ApiError(422, "Invalid", "metadata.uid: field is immutable")
        if body["spec"].get("parallelism", 1) > 10000:
            raise ApiError(422, "Invalid", "spec.parallelism is too large")
        assert self.made is not None
        self.made["spec"] |= body["spec"]
        return self.made

    async def watch(self, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        for made in self.news:
            self.made = made
            yield type("WatchEvent", (), {"type": "MODIFIED", "object": made})


class Place:
    namespace, prefix = "n", "c/n"

    def __init__(self, folder: Path) -> None:
        self.storage = FileStorage(folder)

    async def bucket(self, api: object, what: str) -> FileStorage:
        return self.storage


class Host:
    """The map's state as the API server has it, and its ledger in the bucket."""

    def __init__(self, folder: Path) -> None:
        self.api, self.place = Api(), Place(folder)
        self.digests = [""]
        digest = ledger.GENESIS
        for n in range(3):
            entry = Entry(n=n, prev=digest, records=RECORDS[2 * n : 2 * n + 2])
            raw = ledger.seal(entry, "me", b"s" * 32)
            digest = ledger.digest_of(raw)
            self.place.storage.put(f"c/n/jobs/j/ledger/{n:08d}", raw)
            self.digests.append(digest)

    def state(self, length: int) -> dict[str, Any]:
        """Return the object with so many entries in its ledger; all three are the end."""
        assert self.api.made is not None
        status: dict[str, Any] = {
            "id": "j",
            "phase": "Complete" if length == 3 else "Running",
            "ledger": {"length": length, "digest": self.digests[length]},
            "conditions": [FINISHED] if length == 3 else [],
        }
        return {**self.api.made, "status": status}

    def handle(self) -> shoal.JobHandle:
        """Return the handle of a caller that knows the object as it is now."""
        run = ClusterRun(self.api, self.place, "map", copy.deepcopy(self.api.made))  # type: ignore[arg-type]
        return shoal.JobHandle(run)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def ids(handle: shoal.JobHandle, after: str | None = None) -> list[int]:
    return [task.task_id async for task in handle.results(after=after)]


async def test_a_reader_goes_on_from_its_cursor_while_the_map_runs(host: Host) -> None:
    host.api.made = host.state(2)
    host.api.news = [host.state(3)]
    cursors = [task.cursor async for task in host.handle().results()]
    for done in range(1, 7):
        host.api.made = host.state((done + 1) // 2)
        host.api.news = [host.state(length) for length in (2, 3)]
        assert await ids(host.handle(), cursors[done - 1]) == list(range(done, 6))


async def test_a_handle_that_knows_an_old_state_takes_a_newer_cursor(host: Host) -> None:
    old = host.handle()
    host.api.made = host.state(3)
    cursors = [task.cursor async for task in host.handle().results()]
    assert await ids(old, cursors[4]) == [5]


async def test_a_cursor_from_beyond_the_ledger_is_refused(host: Host) -> None:
    host.api.made = host.state(3)
    cursors = [task.cursor async for task in host.handle().results()]
    host.api.made = host.state(1)
    with pytest.raises(ConfigurationError, match=f"cursor {cursors[4]} does not fit"):
        await ids(host.handle(), cursors[4])


async def test_who_waits_for_a_suspended_run_is_told_at_each_pause(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    missing = {
        "type": "WorkersMissing",
        "status": "True",
        "reason": "QuotaExceeded",
        "message": "1 of 2 workers is missing: pods",
    }
    paused = host.state(1)
    paused["status"]["phase"] = "Suspended"
    fewer = host.state(1)
    fewer["status"]["conditions"] = [missing]
    host.api.made = host.state(0)
    host.api.news = [paused, paused, fewer, fewer, paused, host.state(3)]
    assert await host.handle().result() == list(range(6))
    suspended = "mapjobs.shoal.dev/x is suspended: its handle's resume() lets it go on"
    said = [record.getMessage() for record in caplog.records if record.name == "shoal"]
    assert said == [
        suspended,
        "mapjobs.shoal.dev/x has fewer workers than it could use (QuotaExceeded): "
        "1 of 2 workers is missing: pods",
        suspended,
    ]


async def test_it_is_pending_as_long_as_it_has_no_status(host: Host) -> None:
    assert (await host.handle().status()).phase == "Pending"


async def test_it_is_suspended_resumed_and_resized_by_its_spec(host: Host) -> None:
    handle = host.handle()
    assert host.api.made is not None
    await handle.suspend()
    assert host.api.made["spec"]["suspend"] is True
    await handle.resume()
    await handle.set_parallelism(7)
    assert (host.api.made["spec"]["suspend"], host.api.made["spec"]["parallelism"]) == (False, 7)
    with pytest.raises(ApiError, match="too large"):
        await handle.set_parallelism(10_001)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_run_that_is_gone_is_not_changed(host: Host, replaced: bool) -> None:
    handle = host.handle()
    assert host.api.made is not None
    if replaced:
        host.api.made["metadata"]["uid"] = "u2"
    else:
        host.api.made = None
    for change in (handle.suspend(), handle.set_parallelism(2)):
        with pytest.raises(JobDeleted, match=r"mapjobs\.shoal\.dev/x .* was deleted"):
            await change
    assert not replaced or "suspend" not in host.api.made["spec"]


async def test_a_name_that_is_not_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    machinery = ClusterMachinery(shoal.Kubernetes())

    async def connect() -> tuple[Api, Place]:
        return host.api, host.place

    monkeypatch.setattr(machinery, "_connect", connect)
    assert (await machinery.attach("x")).full_name == "mapjobs.shoal.dev/x"
    host.api.made = None
    with pytest.raises(JobNotFound, match="named x in namespace n"):
        await machinery.attach("x")
