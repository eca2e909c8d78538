"""Out of memory: the task that was running is charged, and may get more in its next attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ledgers import read
from namespaces import Place

import shoal
from shoal.kube import PODS

HERE = shoal.Deployment()
SMALL = shoal.Resources(logical_cpu=0.1, memory_gb=0.125)
LIMIT = 128 << 20


def holding(mebibytes: int) -> Callable[[], None]:
    """A function that holds so much memory for a moment."""

    def hold() -> None:
        block = bytearray(mebibytes << 20)
        block[::4096] = b"x" * len(block[::4096])

    return hold


async def test_the_task_that_ran_is_charged_and_the_others_go_on(user: Place) -> None:
    hold = holding(400)

    def greedy(item: int) -> int:
        if item == 3:
            hold()
        return item

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(greedy, range(8), user.host(), SMALL, HERE, 1, name="greedy")
    assert caught.value.results == [0, 1, 2, None, 4, 5, 6, 7]
    (failed,) = caught.value.failed
    assert (failed.task_id, failed.state, failed.attempt) == (3, "OUT_OF_MEMORY", 1)
    assert "memory" in str(caught.value)
    book = await read(user, (await user.get("MapJob", "greedy"))["status"])
    assert sorted(record.task for record in book.records) == list(range(8))
    assert book.charges == []


async def test_further_attempts_run_in_larger_pods(user: Place) -> None:
    hold = holding(180)

    def growing(item: int) -> int:
        if item == 3:
            hold()  # more than the first attempt has, less than the second
        return item

    tasks = shoal.run_map_as_completed(
        growing,
        range(8),
        user.host(),
        SMALL,
        HERE,
        num_concurrent_tasks=1,
        max_num_task_attempts=3,
        retry_with_more_memory=True,
        name="growing",
    )
    found = {task.task_id: task async for task in tasks}
    assert {index: task.result_or_raise() for index, task in found.items()} == {
        index: index for index in range(8)
    }
    assert {index: task.attempt for index, task in found.items() if task.attempt > 1} == {3: 2}
    assert 180 << 20 <= found[3].peak_memory <= 2 * LIMIT
    assert await memory_of(user, found[3].pod) == 2 * LIMIT
    assert await memory_of(user, found[0].pod) == LIMIT
    book = await read(user, (await user.get("MapJob", "growing"))["status"])
    assert [(charge.index, charge.kind) for charge in book.charges] == [(3, "attempt")]


async def memory_of(place: Place, pod: str) -> int:
    """The memory that a worker's Pod asks for and is limited to."""
    found = await place.api.get(PODS, pod, place.namespace)
    resources = found["spec"]["containers"][0]["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    return in_bytes(resources["limits"]["memory"])


def in_bytes(quantity: str) -> int:
    for unit, size in (("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)):
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * size
    return int(quantity)


def nearly_all() -> Callable[[], list[bytearray]]:
    """A function that uses up 97 % of what its container may have."""

    def fill() -> list[bytearray]:
        from pathlib import Path

        group, old = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
        limit, used = group / "memory.max", group / "memory.current"
        if not limit.exists():
            limit, used = old / "memory.limit_in_bytes", old / "memory.usage_in_bytes"
        most = int(limit.read_text())
        held: list[bytearray] = []
        while int(used.read_text()) < most * 0.97:
            held.append(bytearray(b"x") * (1 << 19))
        return held

    return fill


async def test_a_memory_error_that_python_caught_counts_only_for_a_task_that_failed(
    user: Place,
) -> None:
    fill = nearly_all()

    def full(item: int) -> int:
        if item == 1:  # always fails with hardly any memory left
            held = fill()
            raise MemoryError(f"{len(held)} blocks are held")
        if item == 2:  # fails with plenty of memory left
            raise ValueError("not for want of memory")
        if item == 3:  # needs nearly all, and succeeds
            fill()
        return item

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(
            full,
            range(5),
            user.host(),
            SMALL,
            HERE,
            num_concurrent_tasks=1,
            max_num_task_attempts=2,
            retry_with_more_memory=True,
            name="full",
        )
    assert caught.value.results == [0, None, None, 3, 4]
    assert [(task.task_id, task.state, task.attempt) for task in caught.value.failed] == [
        (1, "OUT_OF_MEMORY", 2),
        (2, "PYTHON_EXCEPTION", 2),
    ]
    # each further attempt has more, whatever the one before it failed of
    for task in caught.value.failed:
        assert await memory_of(user, task.pod) == 2 * LIMIT


async def test_a_single_job_gets_more_memory_too(user: Place) -> None:
    hold = holding(180)

    def growing() -> str:
        hold()
        return "enough"

    options: dict[str, Any] = {"max_num_task_attempts": 2, "retry_with_more_memory": True}
    assert await shoal.run_function(growing, user.host(), SMALL, HERE, **options) == "enough"
    with pytest.raises(shoal.TaskException, match="memory"):
        await shoal.run_function(growing, user.host(), SMALL, HERE)
