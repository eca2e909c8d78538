"""The sweep takes what belongs to nobody, and nothing of another cluster's."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import pytest
from namespaces import Place, bucket

import shoal
from shoal.kube import CONFIGMAPS, JOBS

PLAIN = shoal.Deployment()


async def until(what: str, look: Callable[[], bool], seconds: float = 150) -> None:
    """Look until it is so."""
    try:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(look):
                await asyncio.sleep(0.5)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


async def cluster_of(place: Place) -> str:
    """Return the id that the operator puts before every key."""
    told = (await place.api.get(CONFIGMAPS, "shoal", place.namespace))["data"]
    return str(told["clusterId"])


async def test_another_clusters_data_outlives_every_sweep(user: Place) -> None:
    storage, cluster = await bucket(user.api), await cluster_of(user)
    job = secrets.token_hex(12)
    where = f"{user.namespace}/jobs/{job}/ledger/00000000"
    ours = f"{cluster}/{where}"
    others = [f"another-{cluster}/{where}", f"{cluster}-another/{where}", f"{job}/unrelated"]
    for key in [ours, *others]:
        storage.put(key, b"x")
    try:
        await until("our own orphan is swept", lambda: not storage.exists(ours))
        assert [key for key in others if not storage.exists(key)] == []
    finally:
        storage.delete(*others)


async def test_a_deleted_jobs_keys_go_and_a_living_ones_stay(user: Place) -> None:
    storage, cluster = await bucket(user.api), await cluster_of(user)
    gone, living = [
        await shoal.submit_function(lambda: 1, user.host(), None, PLAIN) for _ in range(2)
    ]
    prefixes = []
    for handle in (gone, living):
        assert await handle.result() == 1
        job = (await user.get("Job", handle.name))["status"]["id"]
        prefixes.append(f"{cluster}/{user.namespace}/jobs/{job}/")
    assert all(any(storage.list(prefix)) for prefix in prefixes)
    await user.api.delete(JOBS, gone.name, user.namespace)
    await until("its keys are gone", lambda: not any(storage.list(prefixes[0])))
    assert any(storage.list(prefixes[1]))
    assert await living.result() == 1
