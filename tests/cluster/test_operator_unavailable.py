"""The operator dies in the middle: no result is lost, none is there twice, workers live on."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from namespaces import RELEASE_NAMESPACE, Place, bucket

from shoal.kube import PODS
from shoal.ledger_reader import LedgerReader

pytestmark = pytest.mark.usefixtures("chaos")


async def kill_operator(place: Place) -> None:
    selector = "app.kubernetes.io/name=shoal,app.kubernetes.io/component=operator"
    found = await place.api.list(PODS, RELEASE_NAMESPACE, label_selector=selector)
    for pod in found["items"]:
        name = pod["metadata"]["name"]
        await place.api.delete(PODS, name, RELEASE_NAMESPACE, grace_seconds=0)


async def results(place: Place, status: dict[str, Any]) -> Counter[int]:
    storage = await bucket(place.api)
    told = status["storage"].get("prefix", "")
    (key,) = {
        info.key.partition("/ledger/")[0]
        for info in await asyncio.to_thread(lambda: list(storage.list(told)))
        if f"/{status['id']}/ledger/" in info.key
    }

    async def get(name: str) -> bytes:
        return await asyncio.to_thread(storage.get, name)

    found: Counter[int] = Counter()
    reader = LedgerReader(get, key)
    async for entry in reader.read(status["ledger"]["length"], status["ledger"]["digest"]):
        found.update(record.task for record in entry.records)
    return found


async def test_a_thousand_items_survive_the_operators_death(place: Place) -> None:
    spec: dict[str, Any] = {
        "function": {"name": "time.sleep"},
        "items": {"inline": [0.02] * 1000},
        "parallelism": 4,
    }
    await place.apply("MapJob", "thousand", spec)
    await place.until("MapJob", "thousand", lambda s: s.get("succeeded", 0) >= 100)
    before = {pod["metadata"]["uid"] for pod in await place.pods()}
    await kill_operator(place)
    status = await place.end("MapJob", "thousand", seconds=150)
    assert (status["phase"], status["progress"]) == ("Complete", "1000/1000")
    assert await results(place, status) == Counter(range(1000))
    after = {pod["metadata"]["uid"] for pod in await place.pods()}
    assert before <= after


async def test_what_was_applied_meanwhile_is_done_after_it(place: Place) -> None:
    await kill_operator(place)
    spec = {"function": {"name": "math.gcd", "args": [12, 18]}}
    assert (await place.run("Job", "meanwhile", spec, seconds=90))["result"] == 6
