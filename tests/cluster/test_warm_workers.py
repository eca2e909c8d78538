"""Workers are kept for the next job, shared by like jobs, and gone when nobody needs them."""

from __future__ import annotations

from typing import Any

from namespaces import Place

from shoal.kube import DEPLOYMENTS, PODS


def gcd(number: int) -> dict[str, Any]:
    return {"function": {"name": "math.gcd", "args": [12, number]}}


def uids(pods: list[Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


async def test_the_next_job_finds_the_worker_warm(place: Place) -> None:
    await place.run("Job", "one", gcd(18))
    first = await place.pods()
    for number in range(5):
        await place.run("Job", f"more-{number}", gcd(number))
    assert uids(await place.pods()) == uids(first)
    assert len(first) == 1


async def test_idle_workers_leave_and_their_pods_go(place: Place) -> None:
    await place.run("Job", "brief", gcd(18) | {"deployment": {"idleSeconds": 2}})
    assert await place.pods()
    await place.until_pods(lambda pods: not pods, seconds=40)


async def test_an_isolated_job_takes_its_pod_along(place: Place) -> None:
    status = await place.run("Job", "alone", gcd(18) | {"isolation": "job"})
    assert status["result"] == 6
    await place.until_pods(lambda pods: not pods, seconds=40)


async def test_other_surroundings_are_other_workers(place: Place) -> None:
    await place.run("Job", "plain", gcd(18))
    variables = {"environmentVariables": [{"name": "A", "value": "1"}]}
    await place.run("Job", "other", gcd(18) | {"deployment": variables})
    assert len(await place.pods()) == 2


async def test_a_deployment_holds_workers_ready_and_scales(place: Place) -> None:
    await place.apply("Deployment", "ready", {"python": "3.11", "minWorkers": 2, "idleSeconds": 1})
    status = await place.until("Deployment", "ready", lambda s: s.get("readyReplicas") == 2)
    assert status["replicas"] == 2
    held = uids(await place.pods())
    await place.run("Job", "user", gcd(18) | {"deployment": {"ref": "ready"}})
    assert uids(await place.pods()) == held
    await place.api.patch(
        DEPLOYMENTS, "ready", {"spec": {"replicas": 0}}, place.namespace, subresource="scale"
    )
    await place.until_pods(lambda pods: not pods, seconds=40)


async def test_a_deleted_worker_is_replaced_and_its_task_done(place: Place) -> None:
    spec = {"function": {"name": "time.sleep"}, "items": {"inline": [3, 3]}, "parallelism": 1}
    await place.apply("MapJob", "naps", spec)
    await place.until("MapJob", "naps", lambda s: s.get("phase") == "Running")
    (pod,) = await place.pods()
    await place.api.delete(PODS, pod["metadata"]["name"], place.namespace, grace_seconds=0)
    status = await place.end("MapJob", "naps", seconds=60)
    assert (status["phase"], status["succeeded"]) == ("Complete", 2)
    assert uids(await place.pods()).isdisjoint(uids([pod]))
