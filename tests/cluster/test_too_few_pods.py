"""Fewer Pods than `parallelism`: a map with one worker goes on, and says how many are missing."""

from __future__ import annotations

from typing import Any

from chaos import Chaos
from ledgers import check_all_once
from namespaces import Place, condition

from shoal.kube import NODES, Resource

QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
SPEC: dict[str, Any] = {
    "function": {"name": "time.sleep"},
    "items": {"inline": [0.1] * 80},
    "parallelism": 3,
    "startDeadlineSeconds": 5,  # over before the map is
}


def missing(status: dict[str, Any]) -> dict[str, Any]:
    found = condition(status, "WorkersMissing")
    return found if found.get("status") == "True" else {}


async def test_a_quota_that_allows_one_worker(place: Place) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "one"},
        "spec": {"hard": {"pods": "1"}},
    }
    await place.api.create(QUOTAS, quota, place.namespace)
    await place.apply("MapJob", "narrow", SPEC)
    told = missing(await place.until("MapJob", "narrow", missing))
    assert told["reason"] == "QuotaExceeded"
    assert told["message"].startswith("2 of 3 workers are missing: ")
    assert "exceeded quota: one" in told["message"]
    status = await place.end("MapJob", "narrow")
    assert (status["phase"], status["progress"]) == ("Complete", "80/80")
    assert not missing(status)
    await check_all_once(place, "narrow", [None] * 80)
    assert len(await place.pods()) == 1


async def test_nodes_that_have_room_for_one_worker(place: Place, chaos: Chaos) -> None:
    node = await chaos.victim()
    found = await place.api.get(NODES, node)
    kibibytes = int(found["status"]["allocatable"]["memory"].removesuffix("Ki"))
    wide = SPEC | {"resources": {"cpu": "100m", "memory": f"{kibibytes * 6 // 10}Ki"}}
    (other,) = [
        item["metadata"]["name"]
        for item in (await place.api.list(NODES))["items"]
        if item["metadata"]["name"] != node
    ]
    async with chaos.cordoned(other):
        await place.apply("MapJob", "wide", wide)
        told = missing(await place.until("MapJob", "wide", missing))
        assert told["reason"] == "Unschedulable"
        assert told["message"].startswith("2 of 3 workers are missing: ")
        assert "Insufficient memory" in told["message"]
        status = await place.end("MapJob", "wide")
    assert (status["phase"], status["progress"]) == ("Complete", "80/80")
    await check_all_once(place, "wide", [None] * 80)
