"""A suspended job: nothing runs, nothing is charged, and what is finished stays finished."""

from __future__ import annotations

import asyncio

from playing import POOL, SECRET, Worker, make, results, right, spec

from shoal.dispatch import Dispatcher
from shoal.ledger import Terminal

JOB = spec().id


async def test_a_suspended_job_is_dropped_by_its_workers_and_goes_on_later() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(40, max_disruptions=0), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(most=1)
    told = asyncio.create_task(worker.poll(wait=20))
    await asyncio.sleep(0)
    dispatcher.set_suspended(JOB, True)
    await told
    assert (await worker.poll())["gone"] == [JOB] or not worker.held
    assert dispatcher.pool(POOL).wanted == 0
    assert not (await worker.poll())["claims"]
    view = dispatcher.job(JOB)
    assert view is not None
    assert (view.claimed, view.succeeded) == (0, 1)
    dispatcher.set_suspended(JOB, False)
    await worker.work()
    assert results(store) == right(40)


async def test_a_result_that_was_on_its_way_is_kept() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(4), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    dispatcher.set_suspended(JOB, True)
    await worker.report()
    dispatcher.set_suspended(JOB, False)
    await worker.work()
    assert results(store) == right(4)


async def test_a_job_can_begin_suspended_and_stays_so_after_a_restart() -> None:
    dispatcher, store, clock = make()
    await dispatcher.attach(spec(4), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await dispatcher.stop()
    again = Dispatcher(secret=SECRET, on_change=lambda job: None, now=clock)
    await again.attach(spec(4, suspended=True), store, POOL, fresh=False)
    worker.dispatcher = again
    assert (await worker.poll())["gone"] == [JOB]
    assert not worker.held
    again.set_suspended(JOB, False)
    await worker.work()
    assert results(store) == right(4)


async def test_a_suspended_job_can_be_cancelled() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(4, suspended=True), store, POOL, fresh=True)
    dispatcher.finish(JOB, Terminal("cancelled", "Cancelled", "enough"))
    while not dispatcher.job(JOB).terminal:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    assert results(store) == {}
