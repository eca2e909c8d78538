"""A map's caller does not notice that the operator is deleted: every result comes, once."""

from __future__ import annotations

import asyncio

import pytest
from namespaces import RELEASE_NAMESPACE, Place

import shoal
from shoal.kube import PODS

pytestmark = pytest.mark.usefixtures("chaos")


async def delete_operator(place: Place) -> None:
    selector = "app.kubernetes.io/name=shoal,app.kubernetes.io/component=operator"
    found = await place.api.list(PODS, RELEASE_NAMESPACE, label_selector=selector)
    for pod in found["items"]:
        await place.api.delete(PODS, pod["metadata"]["name"], RELEASE_NAMESPACE, grace_seconds=1)


async def test_a_map_of_a_thousand_items_survives_the_operators_pod(user: Place) -> None:
    def slow_square(item: int) -> int:
        import time

        time.sleep(0.02)
        return item * item

    tasks = shoal.run_map_as_completed(
        slow_square, range(1000), user.host(), num_concurrent_tasks=4
    )
    seen: list[tuple[int, int]] = []
    deleting: asyncio.Task[None] | None = None
    async for task in tasks:
        seen.append((task.task_id, task.result_or_raise()))
        if len(seen) >= 200 and deleting is None:
            deleting = asyncio.create_task(delete_operator(user))
    assert deleting is not None
    await deleting
    assert sorted(seen) == [(item, item * item) for item in range(1000)]
