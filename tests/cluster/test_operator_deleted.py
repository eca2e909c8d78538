"""A map outlives the operator: its Pod is deleted in the middle, every result is there once."""

from __future__ import annotations

import asyncio

from conftest import SYSTEM, Space, kubectl

import shoal


def slow_square(item: int) -> int:
    import time

    time.sleep(0.02)
    return item * item


async def test_a_map_of_a_thousand_items_survives_the_operators_pod(space: Space) -> None:
    tasks = shoal.run_map_as_completed(
        slow_square, range(1000), space.host(), num_concurrent_tasks=4
    )
    seen: list[tuple[int, int]] = []
    deleted = False
    async for task in tasks:
        seen.append((task.task_id, task.result_or_raise()))
        if len(seen) >= 200 and not deleted:
            deleted = True
            words = ["delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator"]
            await asyncio.to_thread(kubectl, *words, "--grace-period=1", "--wait=false")
    assert deleted
    assert sorted(seen) == [(item, item * item) for item in range(1000)]
