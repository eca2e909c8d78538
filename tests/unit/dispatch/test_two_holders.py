"""A task in two workers' hands, or told of twice: one outcome, one charge."""

from __future__ import annotations

import asyncio

import pytest
from memory_store import MemoryStore
from playing import POOL, Worker, make, results, right, spec

from shoal import ledger
from shoal.dispatch.run import Cause
from shoal.worker import records
from shoal.worker.records import Record


@pytest.mark.parametrize("cause", ["oom", "disruption"])
async def test_a_worker_lost_with_a_task_that_is_over_costs_nothing(cause: Cause) -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(2, parallelism=3, max_disruptions=0), store, POOL, fresh=True)
    first, second, third = (Worker(dispatcher, uid) for uid in "abc")
    await first.poll()
    await third.poll()
    work = dispatcher.jobs()[spec().id].work
    work.give_back(work.claims.of("a")[0])  # as after two polls that did not name it
    await second.poll()
    assert second.tasks() == [0]
    await first.report()  # it had the task after all
    dispatcher.worker_gone("b", "gone", cause=cause)
    await third.report()
    assert results(store) == right(2)


async def test_a_task_that_a_report_names_twice_is_recorded_once() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(2), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    (claim,) = worker.held
    record = Record(0, 1, records.SUCCEEDED, "pickle", b"r0")
    await dispatcher.report(worker.identity, {}, [(spec().id, claim, [record, record], 0.1)])
    assert results(store) == right(1)


async def test_a_failure_is_charged_once_while_its_charge_is_on_the_way() -> None:
    """After a restart the worker's polls still name the claim, and its report comes again."""
    dispatcher, store, _ = make()
    job = spec(2, max_attempts=2)
    await dispatcher.attach(job, store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await dispatcher.stop()
    again, gate = make(store)[0], asyncio.Event()
    await again.attach(job, store, POOL, fresh=False, live=["a"])
    worker.dispatcher = again
    await worker.poll()
    (held, *_) = worker.held
    hold_back(store, gate)
    failure = Record(0, 1, records.PYTHON_EXCEPTION, "pickle", b"")
    report = (worker.identity, {"number": 1}, [(job.id, held, [failure], 0.1)])
    unheard = asyncio.create_task(again.report(*report))
    await asyncio.sleep(0)
    await worker.poll()
    unheard.cancel()
    heard = asyncio.create_task(again.report(*report))
    await asyncio.sleep(0)
    gate.set()
    await heard
    entries = [store.objects[key] for key in sorted(store.objects) if "/ledger/" in key]
    charges = [charge for raw in entries for charge in ledger.open_entry(raw).charges]
    assert [(charge.index, charge.kind) for charge in charges] == [(0, "attempt")]


def hold_back(store: MemoryStore, gate: asyncio.Event) -> None:
    """Let no object be created before the gate opens."""
    create = store.create

    async def slow(key: str, data: bytes) -> bool:
        await gate.wait()
        return await create(key, data)

    store.create = slow  # type: ignore[method-assign]


async def test_a_worker_that_went_on_to_another_job_keeps_no_place() -> None:
    dispatcher, store, clock = make()
    one = spec(1, parallelism=1, max_attempts=2, backoff=5.0)
    other = spec(8, id="k" * 24, uid="other", prefix="c/n/jobs/k", parallelism=1)
    await dispatcher.attach(one, store, POOL, fresh=True)
    busy, idle = Worker(dispatcher, "a"), Worker(dispatcher, "b")
    await busy.poll()
    await dispatcher.attach(other, store, POOL, fresh=True)
    await busy.report(records.PYTHON_EXCEPTION)
    assert (await busy.poll())["claims"]
    await busy.poll()  # now it names what it has
    clock.now += 10
    (claim,) = (await idle.poll())["claims"]
    assert (claim["job"], claim["attempt"]) == (one.id, 2)


async def test_a_worker_whose_pod_is_gone_gets_nothing_but_is_heard() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(2), store, POOL, fresh=True)
    going, other = Worker(dispatcher, "a"), Worker(dispatcher, "b")
    await going.poll()
    dispatcher.worker_gone("a", "deleted")
    assert await going.poll() == {"claims": [], "exit": True}
    await going.report()
    assert dispatcher.pool(POOL).connected == frozenset()
    await other.work()
    assert results(store) == right(2)


async def test_who_died_at_another_jobs_task_charges_nothing_here() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1), store, POOL, fresh=True)
    worker, other = Worker(dispatcher, "a"), Worker(dispatcher, "b")
    await worker.poll()
    dispatcher.worker_gone("a", "oom", running=("another", 0), cause="oom")
    await other.work()
    assert results(store) == right(1)


async def test_a_failure_told_before_the_claim_is_named_counts_once() -> None:
    """After a restart reports may be quicker than polls."""
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    held = {name: dict(claim) for name, claim in worker.held.items()}
    await dispatcher.stop()
    worker.dispatcher = make(store)[0]
    await worker.dispatcher.attach(spec(1), store, POOL, fresh=False, live=["a"])
    assert (await worker.report(records.PYTHON_EXCEPTION))["later"] == [spec().id]
    worker.held = held
    await worker.poll()
    await worker.report(records.PYTHON_EXCEPTION)
    assert results(store)[0][0] == records.PYTHON_EXCEPTION
