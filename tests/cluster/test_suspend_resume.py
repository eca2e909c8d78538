"""A map is suspended and goes on later: what was finished stays finished."""

from __future__ import annotations

import asyncio
from typing import Any

from gates import Gate
from ledgers import check_all_once
from namespaces import Place, condition

import shoal

HERE = shoal.Deployment()
SQUARES = [item * item for item in range(40)]


async def test_a_suspended_map_gives_its_workers_back_and_goes_on_later(
    user: Place, gate: Gate
) -> None:
    wait = gate.wait

    def square(item: int) -> int:
        if item >= 30:
            wait()
        return item * item

    host = user.host()
    handle = await shoal.submit_map(square, range(40), host, None, HERE, 1, name="paused")
    await user.until("MapJob", "paused", lambda s: s.get("succeeded", 0) >= 30)
    await handle.suspend()
    status = await user.until("MapJob", "paused", lambda s: s.get("phase") == "Suspended")
    assert condition(status, "Suspended")["status"] == "True"
    done = status["succeeded"]

    # the worker is free for another job, which needs no new Pod
    before = {pod["metadata"]["uid"] for pod in await user.pods()}
    async with asyncio.timeout(30):
        assert await shoal.run_function(lambda: "free", host, None, HERE) == "free"
    assert {pod["metadata"]["uid"] for pod in await user.pods()} == before

    await gate.open()
    assert (await user.get("MapJob", "paused"))["status"]["succeeded"] == done
    await handle.resume()
    async with asyncio.timeout(60):
        assert await handle.result() == SQUARES
    status = (await user.get("MapJob", "paused"))["status"]
    assert condition(status, "Suspended")["status"] == "False"
    assert (await check_all_once(user, "paused", SQUARES)).charges == []


async def test_the_deadline_does_not_run_while_suspended(place: Place) -> None:
    spec: dict[str, Any] = {
        "function": {"name": "math.gcd", "args": [12, 18]},
        "activeDeadlineSeconds": 4,
        "suspend": True,
    }
    await place.apply("Job", "later", spec)
    await place.until("Job", "later", lambda s: s.get("phase") == "Suspended")
    assert await place.pods() == []
    # longer than the deadline: another job's own deadline tells the time
    sleeper = {"function": {"name": "time.sleep", "args": [600]}, "activeDeadlineSeconds": 5}
    late = await place.run("Job", "clock", sleeper)
    assert condition(late, "Failed")["reason"] == "DeadlineExceeded"
    assert (await place.get("Job", "later"))["status"]["phase"] == "Suspended"
    await place.change("Job", "later", {"suspend": False})
    assert (await place.end("Job", "later"))["result"] == 6


async def test_a_suspended_map_can_be_cancelled(place: Place) -> None:
    spec: dict[str, Any] = {
        "function": {"name": "time.sleep"},
        "items": {"inline": [600] * 3},
        "suspend": True,
    }
    await place.apply("MapJob", "never", spec)
    await place.until("MapJob", "never", lambda s: s.get("phase") == "Suspended")
    await place.change("MapJob", "never", {"cancel": True})
    status = await place.end("MapJob", "never", seconds=20)
    assert (status["phase"], await place.pods()) == ("Cancelled", [])
