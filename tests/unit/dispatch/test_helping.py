"""Idle workers near a map's end: they get what others have not begun, and copies if asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from playing import POOL, Clock, Worker, make, results, right, spec

from shoal.dispatch import Dispatcher
from shoal.worker import records


async def start(total: int, **more: Any) -> tuple[Dispatcher, Any, Clock, Worker, Worker]:
    dispatcher, store, clock = make()
    await dispatcher.attach(spec(total, **more), store, POOL, fresh=True)
    dispatcher.start()
    return dispatcher, store, clock, Worker(dispatcher, "a"), Worker(dispatcher, "b")


async def test_an_idle_worker_gets_what_a_stalled_one_has_not_begun() -> None:
    dispatcher, store, clock, slow, idle = await start(8, parallelism=1)
    await slow.poll()
    assert slow.tasks() == [0, 1]
    dispatcher.set_parallelism(spec().id, 2)
    while (await idle.poll())["claims"]:
        await idle.report()
    asked = asyncio.create_task(slow.poll(wait=20))
    helped = asyncio.create_task(idle.poll(wait=20))
    clock.now += 1.0
    assert (await asked)["revoke"] == [spec().id]
    slow.give_back()
    await slow.poll()
    assert [claim["tasks"] for claim in (await helped)["claims"]] == [[(1, 2)]]
    await idle.report()
    await slow.report()
    assert results(store) == right(8)
    await dispatcher.stop()


async def test_what_is_given_back_twice_or_was_never_had_changes_nothing() -> None:
    dispatcher, store, _, worker, other = await start(8, parallelism=1)
    await worker.poll()
    (claim,) = worker.held
    worker.give_back()
    worker.returned = [*worker.returned * 2, [claim, [(4, 6)]], ["never", [(0, 8)]]]
    other.returned = [[claim, [(0, 1)]]]
    await other.poll()
    await worker.poll()
    await worker.report()
    await worker.work()
    assert results(store) == right(8)
    await dispatcher.stop()


async def copied(**more: Any) -> tuple[Dispatcher, Any, Worker, Worker]:
    """Return two workers that have the same, last task in their hands."""
    dispatcher, store, clock, slow, idle = await start(2, speculation=True, **more)
    await slow.poll()
    await idle.poll()
    await idle.report()
    waiting = asyncio.create_task(idle.poll(wait=20))
    clock.now += 10.0
    await waiting
    assert slow.tasks() == idle.tasks() == [0]
    return dispatcher, store, slow, idle


async def test_of_two_copies_the_first_result_counts() -> None:
    dispatcher, store, slow, idle = await copied()
    await idle.report()
    assert (await slow.report())["gone"] == [spec().id]
    assert results(store) == right(2)
    await dispatcher.stop()


async def test_a_copy_that_fails_does_not_count_while_the_other_runs() -> None:
    dispatcher, store, slow, idle = await copied()
    await idle.report(records.PYTHON_EXCEPTION)
    assert dispatcher.job(spec().id).failed == 0  # type: ignore[union-attr]
    await slow.report()
    assert results(store) == right(2)
    await dispatcher.stop()


async def test_when_both_copies_fail_one_failure_counts() -> None:
    dispatcher, store, slow, idle = await copied()
    await idle.report(records.PYTHON_EXCEPTION)
    await slow.report(records.PYTHON_EXCEPTION)
    assert results(store)[0][0] == records.PYTHON_EXCEPTION
    await dispatcher.stop()


async def test_a_worker_lost_with_a_copy_is_charged_with_nothing() -> None:
    dispatcher, store, slow, _ = await copied(max_disruptions=0)
    dispatcher.worker_gone("b", "deleted")
    await slow.report()
    assert results(store) == right(2)
    await dispatcher.stop()


async def test_nothing_is_copied_unless_asked_for() -> None:
    dispatcher, _, clock, slow, idle = await start(2)
    await slow.poll()
    await idle.poll()
    await idle.report()
    clock.now += 10.0
    assert not (await idle.poll(wait=1.5))["claims"], "a look after time came in between"
    await dispatcher.stop()
