"""Attempts with more memory: the second runs on workers of twice the size, and so on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playing import POOL, SECRET, Clock, Worker, make, results, spec

from shoal.dispatch import Dispatcher, JobView
from shoal.worker import records

GIB = 1 << 30


def sized(attempt: int) -> str:
    return f"{POOL}-{attempt}"


async def start(total: int = 1, **more: Any) -> tuple[Dispatcher, Any, Clock]:
    dispatcher, store, clock = make()
    known = {"more_memory": True, "memory": GIB, "max_attempts": 3, **more}
    await dispatcher.attach(spec(total, **known), store, POOL, fresh=True, sized=sized)
    return dispatcher, store, clock


def view(dispatcher: Dispatcher) -> JobView:
    found = dispatcher.job(spec().id)
    assert found is not None
    return found


@pytest.mark.parametrize("state", [records.OUT_OF_MEMORY, records.PYTHON_EXCEPTION])
async def test_a_second_attempt_is_for_workers_of_twice_the_size(state: str) -> None:
    dispatcher, store, _ = await start()
    small, large = Worker(dispatcher, "a"), Worker(dispatcher, "b", sized(2))
    await small.poll()
    await small.report(state)
    assert view(dispatcher).sizes == (2,)
    assert dispatcher.pool(sized(2)).wanted == 1
    assert dispatcher.pool(POOL).wanted == 0
    assert not (await small.poll())["claims"]
    (claim,) = (await large.poll())["claims"]
    assert claim["attempt"] == 2
    await large.report()
    assert results(store) == {0: (records.SUCCEEDED, b"r0")}
    assert view(dispatcher).sizes == ()


async def test_a_worker_that_dies_of_memory_is_charged_and_the_next_one_is_larger() -> None:
    dispatcher, store, _ = await start(max_attempts=2)
    small, large = Worker(dispatcher, "a"), Worker(dispatcher, "b", sized(2))
    await small.poll()
    dispatcher.worker_gone("a", "oom", running=(spec().id, 0), cause="oom")
    await large.poll(wait=5)
    dispatcher.worker_gone("b", "oom", running=(spec().id, 0), cause="oom")
    while not view(dispatcher).terminal:
        await asyncio.sleep(0)
    (record,) = store.records()
    assert (record.state, record.attempt, record.memory) == (records.OUT_OF_MEMORY, 2, 2048)


@pytest.mark.parametrize(
    ("memory", "state"), [(1000, records.OUT_OF_MEMORY), (900, records.PYTHON_EXCEPTION)]
)
async def test_a_task_that_failed_with_its_memory_nearly_full_lacked_memory(
    memory: int, state: str
) -> None:
    dispatcher, store, _ = await start(max_attempts=1)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(records.PYTHON_EXCEPTION, memory=memory)
    assert results(store)[0][0] == state


async def test_a_task_that_succeeded_with_its_memory_full_succeeded() -> None:
    dispatcher, store, _ = await start()
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(memory=1024)
    assert results(store)[0][0] == records.SUCCEEDED


async def test_larger_workers_count_toward_parallelism() -> None:
    dispatcher, _, _ = await start(40, parallelism=4)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(records.PYTHON_EXCEPTION)
    wanted = [dispatcher.pool(pool).wanted for pool in (POOL, sized(2))]
    assert sum(wanted) == 4
    assert wanted[1] == 2, "half of them, while there are others"


async def test_the_size_survives_a_restart() -> None:
    dispatcher, store, clock = await start(3)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(records.PYTHON_EXCEPTION, most=1)
    await dispatcher.stop()
    again = Dispatcher(secret=SECRET, on_change=lambda job: None, now=clock)
    length, digest = view(dispatcher).ledger_length, view(dispatcher).ledger_digest
    await again.attach(
        spec(3, more_memory=True, memory=GIB, max_attempts=3),
        store,
        POOL,
        fresh=False,
        length=length,
        digest=digest,
        sized=sized,
    )
    assert view(again).sizes == (2,)
    large = Worker(again, "b", sized(2))
    (claim,) = (await large.poll())["claims"]
    assert (claim["attempt"], large.tasks()) == (2, [0])


async def test_where_no_larger_worker_can_be_had_only_its_tasks_fail() -> None:
    dispatcher, store, _ = await start(2, parallelism=1)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(records.OUT_OF_MEMORY)
    dispatcher.give_up(spec().id, 2, "no node has 2Gi")
    await worker.work()
    found = results(store)
    assert found[0] == (records.OUT_OF_MEMORY, b'["OutOfMemory", "no node has 2Gi", ""]')
    assert found[1][0] == records.SUCCEEDED
    assert view(dispatcher).terminal is not None


async def test_an_idle_worker_of_the_first_size_keeps_no_place() -> None:
    dispatcher, store, _ = await start(parallelism=1)
    small, large = Worker(dispatcher, "a"), Worker(dispatcher, "b", sized(2))
    await small.poll()
    await small.report(records.PYTHON_EXCEPTION)
    waiting = asyncio.create_task(small.poll(wait=20))
    assert (await large.poll())["claims"]
    await large.report()
    assert results(store) == {0: (records.SUCCEEDED, b"r0")}
    waiting.cancel()
