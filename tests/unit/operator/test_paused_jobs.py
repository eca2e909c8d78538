"""Suspended jobs: they hold nothing, lose nothing, fail of nothing, and go on when they may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from stage import UID, Stage

from shoal_operator.settings import Settings

SPEC: dict[str, Any] = {
    "function": {"name": "math.gcd"},
    "items": {"inline": [1, 2, 3, 4]},
    "parallelism": 1,
    "deployment": {"ref": "pool"},
}
DIRECT: dict[str, Any] = {"command": ["sleep", "9"]}
ISOLATIONS = pytest.mark.parametrize("isolation", ["shared", "job"])


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with Stage(settings) as made:
        made.deployment()
        yield made


@pytest.fixture
async def bare(settings: Settings) -> AsyncIterator[Stage]:
    """A stage without a bucket."""
    async with Stage(replace(settings, default_bucket="")) as made:
        yield made


async def suspend(stage: Stage, suspended: bool, **spec: Any) -> None:
    stage.apply("MapJob" if "items" in spec else "Job", **spec, suspend=suspended)
    await stage.until(lambda: (stage.status().get("phase") == "Suspended") is suspended)


@ISOLATIONS
async def test_a_job_made_suspended_begins_when_it_may(stage: Stage, isolation: str) -> None:
    spec = {**SPEC, "isolation": isolation}
    await suspend(stage, True, **spec)
    await stage.rest()
    assert (stage.pods(), stage.store.objects) == ([], {})
    assert UID not in stage.dispatcher.jobs()
    assert "startTime" not in stage.status()
    assert stage.condition("Suspended") == ("True", "Suspended")
    await suspend(stage, False, **spec)
    assert stage.condition("Suspended") == ("False", "Resumed")
    assert stage.status()["startTime"]
    await stage.until(lambda: stage.dispatcher.fresh.get(UID))  # nobody's workers are waited for
    await stage.worker(await stage.pod()).work()
    await stage.until(lambda: stage.status()["phase"] == "Complete")


@ISOLATIONS
async def test_a_job_that_pauses_keeps_its_results_and_asks_for_nobody(
    stage: Stage, isolation: str
) -> None:
    spec = {**SPEC, "isolation": isolation}
    stage.apply("MapJob", **spec)
    worker = stage.worker(await stage.pod())
    await worker.poll()
    await worker.report(most=1)
    await worker.poll()
    assert worker.held
    await suspend(stage, True, **spec)
    assert (stage.view().claimed, stage.view().wanted_workers) == (0, 0)
    await worker.poll()
    assert not worker.held
    assert not (await worker.poll())["claims"]
    assert stage.status()["workers"] == {"ready": 0, "wanted": 0}
    await suspend(stage, False, **spec)
    await worker.work()
    await stage.until(lambda: stage.status()["phase"] == "Complete")
    assert sorted(record.task for record in stage.store.records()) == [0, 1, 2, 3]
    assert {record.attempt for record in stage.store.records()} == {1}


@ISOLATIONS
async def test_a_pod_that_has_not_begun_goes_when_its_job_pauses(
    stage: Stage, isolation: str
) -> None:
    stage.apply("MapJob", **SPEC, isolation=isolation)
    await stage.pod()
    await suspend(stage, True, **SPEC, isolation=isolation)
    await stage.until(lambda: not stage.pods())


async def test_no_clock_runs_in_a_pause_and_all_begin_anew_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**SPEC, "activeDeadlineSeconds": 60}
    stage.apply("MapJob", **spec)
    await stage.until(lambda: stage.status().get("phase") == "Pending")
    await suspend(stage, True, **spec)
    before = stage.status()["startTime"]
    stage.later(monkeypatch, 100)
    stage.reconciler.job_changed(UID)
    await stage.rest()
    assert stage.status()["phase"] == "Suspended"
    await suspend(stage, False, **spec)
    await stage.rest()
    assert stage.status()["phase"] == "Pending"
    assert stage.status()["startTime"] > before
    stage.later(monkeypatch, 61)
    stage.reconciler.job_changed(UID)
    await stage.until(lambda: stage.status()["phase"] == "Failed")
    assert stage.condition("Failed") == ("True", "DeadlineExceeded")


async def test_a_pause_outlives_the_operator(stage: Stage, settings: Settings) -> None:
    stage.apply("MapJob", **SPEC)
    worker = stage.worker(await stage.pod())
    await worker.poll()
    await suspend(stage, True, **SPEC)
    async with Stage(settings, stage.api) as after:
        await after.reconciler.load()
        await after.until(lambda: UID in after.dispatcher.jobs())
        assert not after.dispatcher.fresh[UID]
        assert (await after.worker(await after.pod()).poll())["claims"] == []
        assert after.status()["phase"] == "Suspended"
        await suspend(after, False, **SPEC)
        assert after.condition("Suspended") == ("False", "Resumed")
        assert (await after.worker(await after.pod()).poll())["claims"]


async def test_what_was_resumed_while_no_operator_ran_begins_anew(
    stage: Stage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**SPEC, "activeDeadlineSeconds": 60}
    stage.apply("MapJob", **spec)
    await stage.pod()
    await suspend(stage, True, **spec)
    body = stage.api.objects["mapjobs", "default", "x"]
    stage.api.add("mapjobs", {**body, "spec": spec})
    stage.later(monkeypatch, 100)
    async with Stage(settings, stage.api) as after:
        await after.reconciler.load()
        await after.until(lambda: after.condition("Suspended") == ("False", "Resumed"))
        await after.rest()
        assert after.status()["phase"] == "Pending"


@ISOLATIONS
async def test_a_suspended_job_can_be_cancelled(stage: Stage, isolation: str) -> None:
    spec = {**SPEC, "isolation": isolation}
    stage.apply("MapJob", **spec)
    await stage.pod()
    await suspend(stage, True, **spec)
    stage.apply("MapJob", **spec, suspend=True, cancel=True)
    await stage.until(lambda: stage.status()["phase"] == "Cancelled")
    assert stage.condition("Suspended") == ("False", "Cancelled")


async def test_a_job_made_suspended_can_be_cancelled(stage: Stage) -> None:
    await suspend(stage, True, **SPEC)
    stage.apply("MapJob", **SPEC, suspend=True, cancel=True)
    await stage.until(lambda: stage.status()["phase"] == "Cancelled")
    assert stage.store.objects == {}


async def test_the_pod_of_a_command_goes_in_a_pause_and_another_comes_after_it(
    bare: Stage,
) -> None:
    spec = {**DIRECT, "maxDisruptions": 0}
    bare.apply(**spec)
    first = await bare.pod()
    await suspend(bare, True, **spec)
    await bare.until(lambda: not bare.pods())
    # its container ends by the signal, then the Pod is gone: nobody pays for that
    ended = {"phase": "Failed", "containerStatuses": [_ended(143)]}
    meta = {**first["metadata"], "deletionTimestamp": "2026-01-01T00:00:09Z"}
    bare.reconciler.pod_seen({**first, "metadata": meta, "status": ended})
    await bare.rest()
    bare.reconciler.pod_gone(first["metadata"]["uid"])
    await bare.rest()
    assert bare.status()["phase"] == "Suspended"
    await suspend(bare, False, **spec)
    second = await bare.pod()
    assert second["metadata"]["name"] != first["metadata"]["name"]
    bare.sees(second, phase="Succeeded", containerStatuses=[_ended(0)])
    await bare.until(lambda: bare.status()["phase"] == "Complete")


async def test_a_command_made_suspended_has_no_pod(bare: Stage) -> None:
    await suspend(bare, True, **DIRECT)
    await bare.rest()
    assert bare.pods() == []
    await suspend(bare, False, **DIRECT)
    await bare.pod()


async def test_a_command_gets_more_memory_with_each_attempt(bare: Stage) -> None:
    spec = {**DIRECT, "maxAttempts": 2, "retryWithMoreMemory": True, "backoffSeconds": 0}
    bare.apply(**spec, taskTimeoutSeconds=7)
    first = await bare.pod("512Mi")
    assert first["spec"]["activeDeadlineSeconds"] == 7
    bare.sees(first, phase="Failed", containerStatuses=[_ended(137)])
    second = await bare.pod("1Gi")
    assert second["spec"]["activeDeadlineSeconds"] == 7
    bare.sees(second, phase="Failed", reason="DeadlineExceeded")
    await bare.until(lambda: bare.status().get("phase") == "Failed")
    assert bare.status()["error"]["type"] == "TaskTimeout"
    assert len(bare.pods()) == 2


def _ended(code: int) -> dict[str, Any]:
    state = {"exitCode": code, "reason": "OOMKilled" if code == 137 else "Error"}
    return {"name": "worker", "state": {"terminated": state}}
