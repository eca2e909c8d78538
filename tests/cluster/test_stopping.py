"""Cancelling, deadlines, deletion and the time to live."""

from __future__ import annotations

import asyncio

import pytest
from namespaces import Place, bucket, condition

from shoal.errors import ApiError
from shoal.kube import JOBS

SLEEP = {"function": {"name": "time.sleep", "args": [120]}}


async def running(place: Place, name: str) -> None:
    await place.until("Job", name, lambda s: s.get("phase") == "Running")


async def test_a_running_job_is_cancelled(place: Place) -> None:
    await place.apply("Job", "sleep", SLEEP)
    await running(place, "sleep")
    await place.change("Job", "sleep", {"cancel": True})
    status = await place.end("Job", "sleep", seconds=15)
    assert status["phase"] == "Cancelled"
    assert condition(status, "Failed")["reason"] == "Cancelled"
    # and its worker is free for the next one
    spec = {"function": {"name": "math.gcd", "args": [4, 6]}}
    assert (await place.run("Job", "next", spec, seconds=15))["result"] == 2


async def test_a_deadline_ends_a_job(place: Place) -> None:
    status = await place.run("Job", "late", SLEEP | {"activeDeadlineSeconds": 3}, seconds=30)
    assert condition(status, "Failed")["reason"] == "DeadlineExceeded"


async def test_time_to_live_takes_resource_and_keys(place: Place) -> None:
    spec = {"function": {"name": "math.gcd", "args": [4, 6]}, "ttlSecondsAfterFinished": 1}
    made = await place.apply("Job", "short", spec)
    async with asyncio.timeout(60):
        while True:
            try:
                await place.get("Job", "short")
            except ApiError as error:
                assert error.status == 404
                break
            await asyncio.sleep(0.5)
    await no_keys(place, made["metadata"]["uid"])


async def test_a_deleted_jobs_keys_go_and_another_clusters_stay(place: Place) -> None:
    storage = await bucket(place.api)
    foreign = f"other-cluster/{place.namespace}/jobs/{'x' * 20}/ledger/00000000"
    await asyncio.to_thread(storage.put, foreign, b"not yours")
    made = await place.apply("Job", "gone", {"function": {"name": "math.gcd", "args": [4, 6]}})
    await place.end("Job", "gone")
    await place.api.delete(JOBS, "gone", place.namespace)
    await no_keys(place, made["metadata"]["uid"])
    assert await asyncio.to_thread(storage.get, foreign) == b"not yours"
    await asyncio.to_thread(storage.delete, foreign)


async def no_keys(place: Place, uid: str) -> None:
    storage = await bucket(place.api)
    job_id = "u" + uid.replace("-", "")
    left: list[str] = []
    try:
        async with asyncio.timeout(30):
            while left := await asyncio.to_thread(
                lambda: [i.key for i in storage.list("") if job_id in i.key]
            ):
                await asyncio.sleep(0.5)
    except TimeoutError:
        pytest.fail(f"keys are left: {left}")
