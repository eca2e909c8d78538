"""`parallelism` is changed while a map runs: never more workers than it says."""

from __future__ import annotations

import asyncio
from typing import Any

from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal

HERE = shoal.Deployment()


async def test_more_workers_and_then_fewer(user: Place, gate: Gate) -> None:
    wait = gate.wait

    def where(item: int) -> str:
        import platform
        import time

        if item >= 100:
            wait()
        time.sleep(0.05)
        return platform.node()

    handle = await shoal.submit_map(where, range(120), user.host(), None, HERE, 1, name="width")
    seen: list[int] = []
    counting = asyncio.create_task(count_pods(user, seen))
    await user.until("MapJob", "width", lambda s: s.get("succeeded", 0) >= 5)
    assert len(await user.pods()) == 1
    await handle.set_parallelism(4)
    await user.until("MapJob", "width", lambda s: s["workers"]["ready"] == 4)
    await user.until("MapJob", "width", lambda s: s.get("succeeded", 0) >= 100)
    await handle.set_parallelism(1)
    await gate.open()
    async with asyncio.timeout(60):
        results = await handle.result()
    counting.cancel()
    assert max(seen) <= 4
    assert len(set(results)) == 4
    await check_all_once(user, "width", results)


async def count_pods(place: Place, seen: list[int]) -> None:
    """Note how many worker Pods there are, again and again."""
    while True:
        seen.append(sum(not is_ended(pod) for pod in await place.pods()))
        await asyncio.sleep(0.1)


def is_ended(pod: dict[str, Any]) -> bool:
    ended = pod["status"].get("phase") in ("Succeeded", "Failed")
    return ended or bool(pod["metadata"].get("deletionTimestamp"))
