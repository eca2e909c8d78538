"""Attempts with more memory: Pods of twice the size are made, kept, missed, given up and let go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from stage import UID, Stage, memory_of

from shoal.worker import records
from shoal_operator.settings import Settings

SPEC: dict[str, Any] = {
    "function": {"name": "math.gcd"},
    "items": {"inline": [1, 2, 3, 4]},
    "parallelism": 2,
    "maxAttempts": 3,
    "retryWithMoreMemory": True,
    "backoffSeconds": 0,
    "deployment": {"ref": "pool"},
}
ISOLATIONS = pytest.mark.parametrize("isolation", ["shared", "job"])
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "no node fits",
}


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with Stage(settings) as made:
        made.deployment()
        yield made


async def usual_workers(stage: Stage, count: int = 2) -> list[Any]:
    await stage.until(lambda: len(stage.pods()) == count)
    return [stage.worker(pod) for pod in stage.pods()]


async def out_of_memory(stage: Stage, worker: Any) -> None:
    """The worker takes tasks, the first of which needs more."""
    await worker.poll()
    await worker.report(records.OUT_OF_MEMORY, most=1)
    await stage.until(lambda: stage.view().sizes == (2,))


@ISOLATIONS
async def test_a_second_attempt_gets_a_pod_of_twice_the_size(stage: Stage, isolation: str) -> None:
    stage.apply("MapJob", **SPEC, isolation=isolation)
    workers = await usual_workers(stage)
    assert {memory_of(pod) for pod in stage.pods()} == {"512Mi"}
    await out_of_memory(stage, workers[0])
    larger = await stage.pod("1Gi")
    owners = {pod["metadata"]["ownerReferences"][0]["uid"] for pod in stage.pods()}
    assert owners == ({UID} if isolation == "job" else {"d"})
    worker = stage.worker(larger)
    (claim,) = (await worker.poll())["claims"]
    assert claim["attempt"] == 2
    await worker.report()
    for other in workers:
        if other.held:
            await other.report()
        await other.work()
    await stage.until(lambda: stage.status().get("phase") == "Complete")
    assert stage.status()["succeeded"] == 4


async def test_the_dispatcher_tells_when_larger_workers_are_wanted_and_not_before(
    stage: Stage,
) -> None:
    """A word that came before would be the last one, and the Pod would wait for the sweep."""
    stage.apply("MapJob", **SPEC)
    workers = await usual_workers(stage)
    seen: list[tuple[int, ...]] = []
    stage.dispatcher.changed = lambda uid: seen.append(stage.view().sizes)
    await out_of_memory(stage, workers[0])
    assert seen[-1] == (2,)


@ISOLATIONS
async def test_a_larger_pod_that_nobody_needs_any_more_goes(stage: Stage, isolation: str) -> None:
    stage.apply("MapJob", **SPEC, isolation=isolation)
    workers = await usual_workers(stage)
    await out_of_memory(stage, workers[0])
    await stage.pod("1Gi")
    stage.apply("MapJob", **SPEC, isolation=isolation, cancel=True)
    await stage.until(lambda: not stage.pods("1Gi"))


async def test_pods_of_sizes_that_an_operator_before_asked_for_go(
    stage: Stage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.apply("MapJob", **SPEC)
    workers = await usual_workers(stage)
    await out_of_memory(stage, workers[0])
    await stage.pod("1Gi")
    stage.api.objects.pop(("mapjobs", "default", "x"))
    async with Stage(settings, stage.api) as after:
        await after.reconciler.load()
        await after.rest()
        assert after.pods("1Gi")  # a job may come up yet that needs it
        after.later(monkeypatch, settings.contact_seconds)
        after.reconciler.queue.mark(("Deployment", "d"))
        await after.until(lambda: not after.pods("1Gi"))


@ISOLATIONS
async def test_parallelism_holds_for_all_sizes_together_and_changes_live(
    stage: Stage, isolation: str
) -> None:
    spec = {**SPEC, "isolation": isolation, "parallelism": 4, "items": {"inline": [0] * 100}}
    stage.apply("MapJob", **spec)
    workers = await usual_workers(stage, 4)
    await out_of_memory(stage, workers[0])
    await stage.pod("1Gi")
    assert stage.view().wanted_workers == 4
    stage.apply("MapJob", **{**spec, "parallelism": 1})
    await stage.until(lambda: stage.view().wanted_workers == 1)
    await stage.until(lambda: stage.status().get("workers", {}).get("wanted") == 1)
    stage.apply("MapJob", **{**spec, "parallelism": 6})
    await stage.until(lambda: stage.view().wanted_workers == 6)
    # the larger one, four that are there, and one more: a larger one counts
    await stage.until(lambda: len(stage.pods("512Mi")) == 5)
    assert len(stage.pods("1Gi")) == 1


@ISOLATIONS
async def test_larger_workers_without_room_are_told_while_the_rest_goes_on(
    stage: Stage, isolation: str
) -> None:
    stage.apply("MapJob", **SPEC, isolation=isolation)
    workers = await usual_workers(stage)
    await out_of_memory(stage, workers[0])
    stage.sees(await stage.pod("1Gi"), phase="Pending", conditions=[UNSCHEDULABLE])
    await stage.until(lambda: stage.condition("WorkersMissing") == ("True", "Unschedulable"))
    assert stage.condition("WorkersReady")[0] == "True"
    (found,) = [c for c in stage.status()["conditions"] if c["type"] == "WorkersMissing"]
    assert found["message"] == "1 of 1 workers with 1Gi of memory is missing: no node fits"
    stage.worker(stage.pods("1Gi")[0])
    await stage.until(lambda: stage.condition("WorkersMissing")[0] == "False")


@ISOLATIONS
async def test_tasks_whose_larger_workers_find_no_room_are_given_up_and_the_others_are_not(
    stage: Stage, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.apply("MapJob", **SPEC, isolation=isolation, startDeadlineSeconds=60)
    workers = await usual_workers(stage)
    await out_of_memory(stage, workers[0])
    stage.sees(await stage.pod("1Gi"), phase="Pending", conditions=[UNSCHEDULABLE])
    await stage.until(lambda: stage.condition("WorkersMissing")[0] == "True")
    stage.later(monkeypatch, 61)
    stage.reconciler.job_changed(UID)
    await stage.until(lambda: stage.status()["failed"] == 1)
    for worker in workers:
        if worker.held:
            await worker.report()
        await worker.work()
    await stage.until(lambda: stage.status().get("phase") == "Failed")
    assert (stage.status()["succeeded"], stage.status()["failed"]) == (3, 1)
    (failed,) = [r for r in stage.store.records() if r.state != records.SUCCEEDED]
    assert failed.state == records.OUT_OF_MEMORY
    assert b"attempt 2 needs a worker with 1Gi of memory" in bytes(failed.data)
    assert b"no node fits" in bytes(failed.data)


async def test_a_quota_that_refuses_some_workers_is_told_steadily(stage: Stage) -> None:
    refused = []

    def refuse(body: dict[str, Any]) -> str | None:
        refused.append(body)
        return "pods x is forbidden: exceeded quota: q" if len(stage.pods()) >= 1 else None

    stage.api.refuse = refuse
    stage.apply("MapJob", **SPEC)
    (worker,) = await usual_workers(stage, 1)
    await worker.poll()
    await stage.until(lambda: stage.condition("WorkersMissing") == ("True", "QuotaExceeded"))
    tries = len(refused)
    for _ in range(10):  # events come: it is neither tried again at once nor forgotten
        stage.reconciler.queue.mark(("Deployment", "d"))
        stage.reconciler.job_changed(UID)
        await stage.rest()
        assert stage.condition("WorkersMissing") == ("True", "QuotaExceeded")
    assert len(refused) == tries
    stage.apply("MapJob", **{**SPEC, "parallelism": 1})
    await stage.until(lambda: stage.condition("WorkersMissing")[0] == "False")


@ISOLATIONS
async def test_workers_of_all_sizes_are_waited_for_after_a_restart(
    stage: Stage, isolation: str, settings: Settings
) -> None:
    stage.apply("MapJob", **SPEC, isolation=isolation)
    workers = await usual_workers(stage)
    await out_of_memory(stage, workers[0])
    larger = await stage.pod("1Gi")
    stage.worker(larger)
    uids = {pod["metadata"]["uid"] for pod in stage.pods()}
    async with Stage(settings, stage.api) as after:
        await after.reconciler.load()
        await after.until(lambda: UID in after.dispatcher.live)
        assert set(after.dispatcher.live[UID]) == uids
