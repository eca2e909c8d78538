"""Environments: built once by a Job, waited for by those who need them, told to their workers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from parts import Body, resource_body
from stage import Stage

from shoal.dispatch import NotAttachedYet, WorkerIdentity
from shoal_operator.pools import build_name
from shoal_operator.settings import Settings
from shoal_operator.status import timestamp

ENVIRONMENT = {"requirements": ["numpy==2.3.1"]}
CALL = {"function": {"name": "numpy.ones"}, "deployment": {"environment": ENVIRONMENT}}
ARCHIVE = {"sha256": "a" * 64, "size": 7, "python": "3.11.2"}


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with Stage(settings) as made:
        yield made


def of_kind(stage: Stage, kind: str) -> list[Body]:
    return [body for (plural, _, _), body in stage.api.objects.items() if plural == kind]


def builds(stage: Stage) -> list[Body]:
    return [b for b in of_kind(stage, "jobs") if b["metadata"]["name"].startswith("environment-")]


async def build_of(stage: Stage) -> Body:
    await stage.until(lambda: builds(stage))
    (build,) = builds(stage)
    return build


def archive_of(build: Body) -> dict[str, Any]:
    """The result of a build that went well."""
    job_id = "u" + build["metadata"]["uid"].replace("-", "")
    return {**ARCHIVE, "key": f"cluster/default/jobs/{job_id}/results/pod/1"}


def ends(stage: Stage, build: Body, phase: str, **status: Any) -> None:
    """The build's status says that it has ended."""
    at = timestamp(time.time() + 1)
    told = {"status": "True", "reason": phase, "message": "the end", "lastTransitionTime": at}
    conditions = [{"type": "Finished", **told}, {"type": phase, **told}]
    ended = {"phase": phase, "completionTime": at, "conditions": conditions, **status}
    stage.reconciler.resource_seen(
        "Job", stage.api.add("jobs", {**build, "status": ended}), created=False
    )


async def test_a_job_waits_for_its_build_and_then_gets_workers(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    assert build["spec"]["function"]["args"][0] == ENVIRONMENT["requirements"]
    assert build["spec"]["deployment"]["image"] == "python:3.11-slim"
    await stage.until(lambda: stage.condition("Running") == ("False", "EnvironmentBuilding"))
    (deployment,) = of_kind(stage, "deployments")
    assert deployment["status"]["environment"]["phase"] == "Building"
    assert not stage.pods_of("Deployment")
    ends(stage, build, "Complete", result=archive_of(build))
    await stage.until(lambda: stage.pods_of("Deployment"))
    (pod,) = stage.pods_of("Deployment")
    variables = {v["name"]: v.get("value") for v in pod["spec"]["containers"][0]["env"]}
    assert variables["SHOAL_ENVIRONMENT"] == build["metadata"]["name"]
    (deployment,) = of_kind(stage, "deployments")
    told = deployment["status"]["environment"]
    assert (told["phase"], told["sha256"], told["size"]) == ("Ready", "a" * 64, 7)


async def test_a_build_that_fails_fails_who_waits(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    uid = build["metadata"]["uid"]
    ends(stage, build, "Failed", error={"type": "BuildFailed", "message": "no such version"})
    await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
    (condition,) = [c for c in stage.status()["conditions"] if c["type"] == "Failed"]
    assert condition["message"].endswith("failed: no such version")
    assert [b["metadata"]["uid"] for b in builds(stage)] == [uid]


async def test_a_build_that_failed_is_made_anew_for_who_comes_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.apply("Job", **CALL)
    first = await build_of(stage)
    ends(stage, first, "Failed")
    await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
    stage.later(monkeypatch, 10)
    body = resource_body("Job", "y", "another", spec=CALL)
    stage.reconciler.resource_seen("Job", stage.api.add("jobs", body), created=True)
    await stage.until(lambda: not builds(stage))


async def test_a_worker_is_told_where_its_environment_is(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    ends(stage, build, "Complete", result=archive_of(build))
    await stage.until(lambda: stage.pods_of("Deployment"))
    (pod,) = stage.pods_of("Deployment")
    who = WorkerIdentity(
        pod_uid=pod["metadata"]["uid"], pod="p", namespace="default", node="n", pool="x"
    )
    signed = SimpleNamespace(presign_get=lambda key, seconds: f"http://bucket/{key}")
    stage.store.storage = signed  # type: ignore[attr-defined]
    place = await stage.reconciler.environments.place(who)
    assert place["sha256"] == "a" * 64
    assert place["url"] == f"http://bucket/{archive_of(build)['key']}"
    with pytest.raises(NotAttachedYet):
        await stage.reconciler.environments.place(replace(who, pod_uid="unknown"))


async def test_an_archive_outside_of_the_builds_own_keys_is_none(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    ends(stage, build, "Complete", result={**ARCHIVE, "key": "cluster/other/jobs/x/results/p/1"})
    await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
    assert not stage.pods_of("Deployment")


def test_what_is_built_names_the_build(settings: Settings) -> None:
    name = build_name({"environment": ENVIRONMENT}, settings)
    assert name == build_name({"environment": ENVIRONMENT, "minWorkers": 3}, settings)
    assert build_name({"python": "3.12"}, settings) == ""
    others = [
        {"environment": {"requirements": ["numpy==2.3.2"]}},
        {"environment": ENVIRONMENT, "python": "3.12"},
        {"environment": ENVIRONMENT, "image": "own:1"},
        {"environment": ENVIRONMENT, "storage": {"bucket": "b"}},
    ]
    assert name not in {build_name(other, settings) for other in others}
