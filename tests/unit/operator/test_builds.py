"""Environments: built once by a Job, waited for by those who need them, told to their workers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from parts import Body, pod_body, resource_body
from stage import Quota, Stage

from shoal.dispatch import NotAttachedYet, WorkerIdentity
from shoal.errors import ApiError
from shoal.kube import Resource
from shoal_operator import poolkeeping
from shoal_operator.pools import build_name
from shoal_operator.settings import Settings
from shoal_operator.status import timestamp

ENVIRONMENT = {"requirements": ["numpy==2.3.1"]}
CALL = {"function": {"name": "numpy.ones"}, "deployment": {"environment": ENVIRONMENT}}
ARCHIVE = {"sha256": "a" * 64, "size": 7, "python": "3.11.2", "machine": "x86_64"}


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    async with Stage(settings) as made:
        yield made


class Refusing(Quota):
    """An API server that refuses builds."""

    def __init__(self, error: ApiError) -> None:
        super().__init__()
        self.error = error

    async def create(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        if resource.plural == "jobs":
            raise self.error
        return await super().create(resource, body, namespace)


def another(stage: Stage, name: str, spec: Body = CALL) -> None:
    body = resource_body("Job", name, f"uid-{name}", spec=spec)
    stage.reconciler.resource_seen("Job", stage.api.add("jobs", body), created=True)


def signs(stage: Stage, plural: str, name: str) -> list[tuple[str, str, str]]:
    status = stage.api.objects[plural, "default", name].get("status") or {}
    return [(c["type"], c["status"], c["reason"]) for c in status.get("conditions", ())]


def message_of(stage: Stage, type_: str) -> str:
    found = [c["message"] for c in stage.status().get("conditions", ()) if c["type"] == type_]
    return str(found[0]) if found else ""


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


async def built(stage: Stage) -> tuple[Body, Body]:
    """A job has come, and its build has gone well; return the build, and the Pod that is made."""
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    ends(stage, build, "Complete", result=archive_of(build))
    await stage.until(lambda: stage.pods_of("Deployment"))
    (pod,) = stage.pods_of("Deployment")
    return build, pod


def ends(stage: Stage, build: Body, phase: str, **status: Any) -> None:
    """The build's status says that it has ended."""
    at = timestamp(time.time())
    told = {"status": "True", "reason": phase, "message": "the end", "lastTransitionTime": at}
    conditions = [{"type": "Finished", **told}, {"type": phase, **told}]
    ended = {"phase": phase, "completionTime": at, "conditions": conditions, **status}
    stage.reconciler.resource_seen(
        "Job", stage.api.add("jobs", {**build, "status": ended}), created=False
    )


async def test_a_job_waits_for_its_build_and_then_gets_workers(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    assert build["spec"]["function"]["args"][0] == ENVIRONMENT
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


async def test_an_environment_is_kept_by_its_last_use(stage: Stage) -> None:
    build, _ = await built(stage)
    environments, cache = stage.reconciler.environments, stage.context.cache
    job = cache.named("Job", "default", build["metadata"]["name"])
    assert job is not None
    environments.look(1000.0)
    assert environments.last_used(job) == 1000.0
    (deployment,) = of_kind(stage, "deployments")
    stage.reconciler.resource_gone("Deployment", deployment["metadata"]["uid"])
    environments.look(2000.0)
    assert environments.last_used(job) == 1000.0
    another = replace(job, name="environment-before")
    assert environments.last_used(another) == stage.context.up_since
    assert environments.last_used(replace(job, labels={})) == 0.0


async def test_builder_and_workers_run_on_nodes_of_the_operators_architecture(
    settings: Settings,
) -> None:
    """Else a mixed cluster would build for the one and run on the other."""
    async with Stage(replace(settings, machine="aarch64")) as stage:
        stage.apply("Job", **CALL)
        build = await build_of(stage)
        stage.reconciler.resource_seen("Job", build, created=True)
        await stage.until(lambda: stage.pods_of("Job"))
        ends(stage, build, "Complete", result=archive_of(build))
        await stage.until(lambda: stage.pods_of("Deployment"))
        for pod in (*stage.pods_of("Job"), *stage.pods_of("Deployment")):
            assert pod["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}


async def test_a_build_that_fails_fails_who_waits(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    uid = build["metadata"]["uid"]
    ends(stage, build, "Failed", error={"type": "BuildFailed", "message": "no such version"})
    await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
    assert message_of(stage, "Failed").endswith("failed: no such version")
    assert [b["metadata"]["uid"] for b in builds(stage)] == [uid]


async def test_a_build_that_failed_is_made_anew_for_who_comes_later(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    first = await build_of(stage)
    ends(stage, first, "Failed")
    await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
    another(stage, "y")
    await stage.until(lambda: not builds(stage))
    stage.reconciler.resource_gone("Job", first["metadata"]["uid"])
    again = await build_of(stage)
    waits = ("Running", "False", "EnvironmentBuilding")
    await stage.until(lambda: waits in signs(stage, "jobs", "y"))
    ends(stage, {**again, "metadata": {**again["metadata"], "uid": "second"}}, "Failed")
    failed = ("Failed", "True", "EnvironmentFailed")
    await stage.until(lambda: failed in signs(stage, "jobs", "y"))


async def test_a_build_that_is_deleted_is_not_met_again(stage: Stage) -> None:
    """Another Deployment has it made anew, and looks again before the watch shows it gone."""
    stage.apply("Job", **CALL)
    first = await build_of(stage)
    ends(stage, first, "Failed")
    await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
    where = {"environment": ENVIRONMENT, "environmentVariables": [{"name": "A", "value": "1"}]}
    another(stage, "y", {**CALL, "deployment": where})
    await stage.until(lambda: not builds(stage))
    for deployment in of_kind(stage, "deployments"):
        stage.reconciler.queue.mark(("Deployment", deployment["metadata"]["uid"]))
    await stage.rest()
    assert ("Failed", "True", "EnvironmentFailed") not in signs(stage, "jobs", "y")
    stage.reconciler.resource_gone("Job", first["metadata"]["uid"])
    await build_of(stage)
    await stage.rest()
    assert ("Failed", "True", "EnvironmentFailed") not in signs(stage, "jobs", "y")


async def test_two_deployments_share_a_build(stage: Stage) -> None:
    for name in ("one", "two"):
        spec = {"environment": ENVIRONMENT, "minWorkers": 1}
        body = stage.api.add("deployments", resource_body("Deployment", name, name, spec=spec))
        stage.reconciler.resource_seen("Deployment", body, created=True)
    build = await build_of(stage)
    await stage.rest()
    assert len(builds(stage)) == 1
    assert not stage.pods_of("Deployment")
    ends(stage, build, "Complete", result=archive_of(build))
    await stage.until(lambda: len(stage.pods_of("Deployment")) == 2)


async def test_a_job_that_has_begun_outlives_the_loss_of_its_environment(stage: Stage) -> None:
    """Somebody deletes the build while a job runs: it is made again, and nobody fails."""
    build, pod = await built(stage)
    worker = stage.worker(pod)
    await worker.poll()
    stage.api.objects.pop(("jobs", "default", build["metadata"]["name"]))
    stage.reconciler.resource_gone("Job", build["metadata"]["uid"])
    again = await build_of(stage)
    ends(stage, {**again, "metadata": {**again["metadata"], "uid": "second"}}, "Failed")
    ready = ("EnvironmentReady", "False", "EnvironmentFailed")
    (name,) = [b["metadata"]["name"] for b in of_kind(stage, "deployments")]
    await stage.until(lambda: ready in signs(stage, "deployments", name))
    await stage.rest()
    assert stage.condition("Failed") == ("", "")
    await worker.report()
    await stage.until(lambda: stage.condition("Complete") == ("True", "Complete"))


async def test_a_job_that_pauses_while_its_environment_is_built(stage: Stage) -> None:
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    stage.apply("Job", suspend=True, **CALL)
    await stage.until(lambda: stage.condition("Suspended") == ("True", "Suspended"))
    await stage.rest()  # nothing goes round and round
    ends(stage, build, "Failed")
    await stage.rest()
    assert stage.condition("Failed") == ("", "")


async def test_a_build_that_the_api_server_refuses(settings: Settings) -> None:
    async with Stage(settings, Refusing(ApiError(422, "Invalid", "spec.x is wrong"))) as stage:
        stage.apply("Job", **CALL)
        await stage.until(lambda: stage.condition("Failed") == ("True", "EnvironmentFailed"))
        assert "spec.x is wrong" in message_of(stage, "Failed")
    async with Stage(settings, Refusing(ApiError(403, "Forbidden", "quota"))) as stage:
        stage.apply("Job", **CALL)
        waits = ("False", "EnvironmentBuilding")
        await stage.until(lambda: stage.condition("Running") == waits)
        (deployment,) = of_kind(stage, "deployments")
        assert "quota" in deployment["status"]["environment"]["message"]


async def test_a_build_that_waits_says_for_what(stage: Stage) -> None:
    stage.api.refuse = lambda body: "exceeded quota: none left"
    stage.apply("Job", **CALL)
    build = await build_of(stage)
    name = build["metadata"]["name"]
    stage.reconciler.resource_seen("Job", build, created=True)
    late = ("WorkersReady", "False", "QuotaExceeded")
    await stage.until(lambda: late in signs(stage, "jobs", name))
    told = stage.api.objects["jobs", "default", name]
    stage.reconciler.resource_seen("Job", told, created=False)  # as the watch does
    await stage.until(lambda: "none left" in message_of(stage, "Running"))
    assert stage.condition("Running") == ("False", "EnvironmentBuilding")
    assert "waits (QuotaExceeded)" in message_of(stage, "Running")


async def test_the_jobs_bucket_is_the_builds(stage: Stage) -> None:
    bucket = {"bucket": "own", "endpoint": "http://s3:9000", "secretName": "key"}
    stage.apply("Job", storage=bucket, **CALL)
    assert (await build_of(stage))["spec"]["storage"] == bucket


async def test_a_worker_that_unpacks_is_not_silent(
    stage: Stage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pod = await built(stage)
    uid = pod["metadata"]["uid"]
    stage.sees(pod, **pod_body(uid, "o", "p")["status"])
    stage.reconciler.pools.enters(uid)
    stage.later(monkeypatch, settings.contact_seconds + 60)
    await stage.rest()
    assert [p["metadata"]["uid"] for p in stage.pods_of("Deployment")] == [uid]
    stage.later(monkeypatch, poolkeeping.ENTER_SECONDS)
    (deployment,) = of_kind(stage, "deployments")
    stage.reconciler.queue.mark(("Deployment", deployment["metadata"]["uid"]))  # as the sweep does
    await stage.until(lambda: uid not in [p["metadata"]["uid"] for p in stage.pods()])


async def test_a_worker_is_told_where_its_environment_is(stage: Stage) -> None:
    build, pod = await built(stage)
    who = WorkerIdentity(
        pod_uid=pod["metadata"]["uid"], pod="p", namespace="default", node="n", pool="x"
    )
    signed = SimpleNamespace(presign_get=lambda key, seconds: f"http://bucket/{key}")
    stage.store.storage = signed  # type: ignore[attr-defined]
    name = build["metadata"]["name"]
    place = await stage.reconciler.place_environment(who, name)
    assert place["sha256"] == "a" * 64
    assert place["url"] == f"http://bucket/{archive_of(build)['key']}"
    with pytest.raises(NotAttachedYet):
        await stage.reconciler.place_environment(who, "environment-of-another")
    with pytest.raises(NotAttachedYet):
        await stage.reconciler.place_environment(replace(who, namespace="other"), name)


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
