"""Tasks that do their worst: each has an outcome, and the rest of the map goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import misdeeds
import pytest
from ledgers import read
from namespaces import Place

import shoal

HERE = shoal.Deployment()


#: What becomes of each: the state, and a word of its message; or its result.
FAILURES = {
    "leaves": ("NON_ZERO_RETURN_CODE", "exit code 3"),
    "exits": ("NON_ZERO_RETURN_CODE", "exit"),
    "kills_itself": ("NON_ZERO_RETURN_CODE", "SIGKILL"),
    "crashes": ("NON_ZERO_RETURN_CODE", "SIGSEGV"),
    "interrupts": ("PYTHON_EXCEPTION", "KeyboardInterrupt"),
    "recurses": ("PYTHON_EXCEPTION", "RecursionError"),
    "raises_what_has_no_text": ("PYTHON_EXCEPTION", "Silent"),
    "raises_what_only_it_knows": ("PYTHON_EXCEPTION", "Unknown"),
    "returns_what_can_not_travel": ("RESULT_CANNOT_BE_PICKLED", "lock"),
    "returns_what_only_it_knows": ("RESULT_CANNOT_BE_UNPICKLED", "only_there"),
}
RESULTS = {
    "returns_nothing": None,
    "forks_many": 60,
    "ignores_signals": "still here",
    "closes_its_output": "quiet",
    "leaves_a_thread": "threaded",
}


async def test_each_bad_task_has_its_outcome_and_the_others_go_on(user: Place) -> None:
    names = sorted([*FAILURES, *RESULTS])
    tasks = {name: getattr(misdeeds, name) for name in names}
    items = [name for name in names for _ in range(2)]  # a good one behind each bad one

    def run(item: tuple[int, str]) -> Any:
        index, name = item
        return index if index % 2 else tasks[name]()

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(
            run,
            list(enumerate(items)),
            user.host(),
            shoal.Resources(logical_cpu=0.2, memory_gb=0.5),
            HERE,
            num_concurrent_tasks=2,
            name="bad",
        )
    failed = {task.task_id: task for task in caught.value.failed}
    for index, name in enumerate(items):
        if index % 2:
            assert caught.value.results[index] == index, name
        elif name in RESULTS:
            assert index not in failed, (name, failed[index])
            assert caught.value.results[index] == RESULTS[name]
        else:
            state, word = FAILURES[name]
            assert (name, failed[index].state) == (name, state)
            assert word in str(failed[index].exception), (name, failed[index].exception)
    unknown = failed[2 * names.index("returns_what_only_it_knows")]
    assert isinstance(unknown.result, bytes)
    assert b"only_there" in unknown.result

    def processes(_: int) -> int:
        from pathlib import Path

        return sum(entry.name.isdigit() for entry in Path("/proc").iterdir())

    # its processes are gone before the next job begins
    async with asyncio.timeout(30):
        left = await shoal.run_map(
            processes,
            range(4),
            user.host(),
            shoal.Resources(logical_cpu=0.2, memory_gb=0.5),
            HERE,
            2,
        )
    assert max(left) < 20
    book = await read(user, (await user.get("MapJob", "bad"))["status"])
    assert sorted(record.task for record in book.records) == list(range(len(items)))


async def test_what_can_not_travel_is_not_tried_again(user: Place) -> None:
    def run(item: int) -> Any:
        import threading

        if item == 1:
            raise ValueError(item)
        return threading.Lock() if item == 2 else item

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(run, range(4), user.host(), None, HERE, 1, max_num_task_attempts=2)
    assert [(task.task_id, task.attempt) for task in caught.value.failed] == [(1, 2), (2, 1)]


async def test_a_gigabyte_of_output(user: Place) -> None:
    def loud(item: int) -> int:
        if item == 1:
            line = "x" * ((1 << 20) - 1) + "\n"
            for _ in range(1 << 10):
                print(line, end="")
        return item

    async with asyncio.timeout(200):
        assert await shoal.run_map(loud, range(4), user.host(), None, HERE, 2) == [0, 1, 2, 3]


async def test_half_a_gigabyte_as_a_result(user: Place) -> None:
    resources = shoal.Resources(logical_cpu=0.5, memory_gb=2.5)
    size = 500_000_000
    result = await shoal.run_function(lambda: b"r" * size, user.host(), resources, HERE)
    assert len(result) == size
    assert result.count(b"r") == size


async def test_fifty_megabytes_of_items_that_differ_by_a_million(user: Place) -> None:
    items = [b"i" * (1_000_000 if index % 10 == 0 else 1) for index in range(500)]
    sizes = [len(item) for item in items]
    assert sum(sizes) > 50_000_000 and max(sizes) == 10**6 * min(sizes)
    assert await shoal.run_map(len, items, user.host(), None, HERE, 3) == sizes
