"""The dispatcher, spoken to as workers and the operator speak to it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any

import pytest
from memory_store import MemoryStore
from playing import POOL, SECRET, Worker, make, results, right, spec

from shoal import ledger
from shoal.dispatch import CodePartRef, CodeRef, Dispatcher, PoolSettings
from shoal.dispatch.logbook import Output, open_chunk
from shoal.dispatch.model import Fatal
from shoal.dispatch.routes import _seconds
from shoal.errors import LedgerTampered, StorageUnavailable
from shoal.ledger import Terminal
from shoal.worker import ranges
from shoal.worker.records import Record, Ref, decode


async def test_a_map_is_worked_off_and_its_end_stands_in_the_ledger() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(50), store, POOL, fresh=True)
    await asyncio.gather(*(Worker(dispatcher, uid).work() for uid in "ab"))
    view = dispatcher.job(spec().id)
    assert view is not None
    assert (view.succeeded, view.failed) == (50, 0)
    assert view.terminal == Terminal("complete", "", "")
    assert results(store) == right(50)


async def test_a_single_result_and_the_end_are_one_object() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1), store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    assert len(store.objects) == 1


async def test_a_report_is_answered_only_when_it_is_durable() -> None:
    dispatcher, store, _ = make()
    down = True
    failed = asyncio.Event()

    def trouble(verb: str, key: str) -> None:
        if down:
            failed.set()
            raise StorageUnavailable("down")

    store.trouble = trouble
    await dispatcher.attach(spec(1), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    report = asyncio.create_task(worker.report())
    await failed.wait()
    while dispatcher.job(spec().id).problem is None:  # type: ignore[union-attr]
        await asyncio.sleep(0.01)  # it may only have blinked
    assert not report.done()
    assert dispatcher.job(spec().id).succeeded == 0  # type: ignore[union-attr]
    assert dispatcher.job(spec().id).problem[0] == "StorageUnavailable"  # type: ignore[union-attr, index]
    down = False
    await report
    assert dispatcher.job(spec().id).succeeded == 1  # type: ignore[union-attr]
    assert dispatcher.job(spec().id).problem is None  # type: ignore[union-attr]


async def test_a_lost_answer_of_the_bucket_doubles_nothing() -> None:
    dispatcher, store, _ = make()
    answers = iter(["after"])
    store.trouble = lambda verb, key: next(answers, None) if verb == "create" else None
    await dispatcher.attach(spec(3), store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    assert results(store) == right(3)


async def test_a_claim_that_never_arrived_is_handed_out_again() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    assert (await worker.poll(lose=True))["claims"]
    assert not (await worker.poll(wait=60))["claims"], "answered at once, to ask again"
    assert (await worker.poll(wait=60))["claims"]
    await worker.report()
    assert results(store) == right(1)


async def test_the_tasks_of_a_pod_that_is_gone_go_to_another() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(20, max_disruptions=1), store, POOL, fresh=True)
    lost, other = Worker(dispatcher, "a"), Worker(dispatcher, "b")
    await lost.poll()
    await lost.report(most=1)
    waiting = asyncio.create_task(other.work())
    dispatcher.worker_gone("a", "deleted")
    await waiting
    while not dispatcher.job(spec().id).terminal:  # type: ignore[union-attr]
        await other.work()
    assert results(store) == right(20)


async def test_a_task_whose_workers_are_lost_too_often_fails_alone() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(3, max_disruptions=2), store, POOL, fresh=True)
    for turn in range(3):
        worker = Worker(dispatcher, f"lost-{turn}")
        while 0 not in itertools.chain(
            *(ranges.each(ranges.parse(claim["tasks"])) for claim in worker.held.values())
        ):
            if worker.held:
                await worker.report()
            await worker.poll(wait=1)
        before = len(store.objects)
        dispatcher.worker_gone(worker.identity.pod_uid, "evicted", running=(spec().id, 0))
        while len(store.objects) == before:
            await asyncio.sleep(0)
    await Worker(dispatcher, "last").work()
    found = results(store)
    assert found[0][0] == "WORKER_LOST"
    assert b"lost 3 times, at last: evicted" in found[0][1]
    assert {task: found[task] for task in (1, 2)} == {task: right(3)[task] for task in (1, 2)}


async def test_a_failed_task_is_charged_before_it_is_tried_again() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1, max_attempts=3), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    for attempt in (1, 2):
        claim = (await worker.poll(wait=1))["claims"][0]
        assert claim["attempt"] == attempt
        await worker.report("PYTHON_EXCEPTION")
        assert sum(b'"charges"' in raw for raw in store.objects.values()) == attempt
    await worker.poll(wait=1)
    await worker.report("PYTHON_EXCEPTION")
    view = dispatcher.job(spec().id)
    assert view is not None
    assert view.terminal == Terminal("failed", "TaskFailed", "1 of 1 tasks failed")


async def test_a_restart_loses_no_result_and_repeats_none() -> None:
    first, store, _ = make()
    await first.attach(spec(40, max_attempts=2), store, POOL, fresh=True)
    worker = Worker(first, "a")
    await worker.poll()
    await worker.report("PYTHON_EXCEPTION", "SUCCEEDED", most=2)
    before = results(store)
    view = first.job(spec().id)
    assert view is not None
    await first.stop()

    second, _, clock = make(store)
    await second.attach(
        spec(40, max_attempts=2),
        store,
        POOL,
        fresh=False,
        length=view.ledger_length,
        digest=view.ledger_digest,
        live=["a", "b"],
    )
    other = Worker(second, "b")
    assert not (await other.poll())["claims"], "worker a has not told what it holds"
    worker.dispatcher = second
    held = dict(worker.held)
    await worker.poll()
    assert set(held) <= set(worker.held)
    for each in (worker, other):
        while each.held:
            await each.report()
        await each.work()
    clock.now += 60
    await other.work()
    found = results(store)
    assert found == right(40)
    assert before.items() <= found.items()


async def test_a_long_job_is_rolled_up_and_recovered_in_few_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "ROLL_UP", 8)
    first, store, _ = make()
    await first.attach(spec(100), store, POOL, fresh=True)
    worker = Worker(first, "a")
    for _ in range(60):
        if not worker.held:
            await worker.poll()
        await worker.report(most=1)
    view = first.job(spec().id)
    assert view is not None
    await first.stop()
    reads = 0

    def count(verb: str, key: str) -> None:
        nonlocal reads
        reads += verb == "get"

    store.trouble = count
    second, _, _ = make(store)
    await second.attach(
        spec(100), store, POOL, fresh=False, length=view.ledger_length, digest=view.ledger_digest
    )
    assert view.ledger_length == 60 + 60 // 8
    assert reads < 30
    await Worker(second, "b").work()
    assert second.job(spec().id).terminal == Terminal("complete", "", "")  # type: ignore[union-attr]
    assert results(store) == right(100)


async def test_a_report_after_a_restart_does_not_tell_what_is_held() -> None:
    first, store, _ = make()
    await first.attach(spec(2), store, POOL, fresh=True)
    holder = Worker(first, "a")
    await holder.poll()
    await first.stop()
    second, _, _ = make(store)
    holder.dispatcher = second
    await second.report(holder.identity, {}, [])  # a sign of life, from before the job is known
    await second.attach(spec(2), store, POOL, fresh=False, live=["a"])
    assert not (await Worker(second, "b").poll())["claims"]


async def test_nothing_follows_the_end_of_a_ledger() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(9), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    ending = asyncio.Event()
    store.trouble = lambda verb, key: ending.set()
    dispatcher.finish(spec().id, Terminal("cancelled", "Cancelled", ""))
    await ending.wait()  # the entry is on its way
    await worker.report()
    assert len([key for key in store.objects if "/ledger/" in key]) == 1


async def test_the_ledger_lets_nothing_go_whatever_the_bucket_raises() -> None:
    dispatcher, store, _ = make()
    troubles = iter([ValueError("nobody expected this"), KeyError("nor this")])

    def trouble(verb: str, key: str) -> None:
        if (error := next(troubles, None)) is not None:
            raise error

    store.trouble = trouble
    await dispatcher.attach(spec(2), store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    assert results(store) == right(2)


async def test_a_task_that_uses_up_the_memory_is_charged_with_an_attempt() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1, max_attempts=2), store, POOL, fresh=True)
    for uid in "ab":
        worker = Worker(dispatcher, uid)
        while not worker.held:
            await worker.poll(wait=1)
        before = len(store.objects)
        note = (spec().id, 0)
        dispatcher.worker_gone(uid, "out of memory", running=note, cause="oom")
        while len(store.objects) == before:
            await asyncio.sleep(0)
    assert results(store)[0][0] == "OUT_OF_MEMORY"


async def test_the_note_of_another_job_charges_nothing() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(9, max_attempts=1), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    dispatcher.worker_gone("a", "gone", running=("another", 0), unknown=True)
    await Worker(dispatcher, "b").work()
    assert results(store) == right(9)


async def two_claims(store: MemoryStore, dispatcher: Dispatcher, **more: Any) -> Worker:
    """Return a worker with tasks 0 to 3 in two claims."""
    await dispatcher.attach(spec(16, parallelism=1, **more), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await worker.report(most=1)
    await worker.poll()
    assert len(worker.held) == 2
    return worker


@pytest.mark.parametrize(("running", "charged"), [(None, 1), (3, 3), (14, None)])
async def test_a_lost_worker_costs_one_task_a_disruption(
    running: int | None, charged: int | None
) -> None:
    dispatcher, store, _ = make()
    worker = await two_claims(store, dispatcher, max_disruptions=0)
    assert 3 in worker.tasks() and 14 not in worker.tasks()
    note = (spec().id, running) if running is not None else None
    dispatcher.worker_gone("a", "deleted", running=note)
    await Worker(dispatcher, "b").work()
    lost = [task for task, (state, _) in results(store).items() if state != "SUCCEEDED"]
    assert lost == ([charged] if charged is not None else [])


async def test_what_used_up_the_memory_is_charged_alone() -> None:
    dispatcher, store, _ = make()
    await two_claims(store, dispatcher)
    dispatcher.worker_gone("a", "oom", running=(spec().id, 2), cause="oom")
    await Worker(dispatcher, "b").work()
    lost = {task: state for task, (state, _) in results(store).items() if state != "SUCCEEDED"}
    assert lost == {2: "OUT_OF_MEMORY"}


async def test_a_failure_that_is_reported_again_after_a_restart_is_charged_once() -> None:
    dispatcher, store, clock = make()
    job = spec(1, max_attempts=2)
    await dispatcher.attach(job, store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    unanswered = dict(next(iter(worker.held.values())))
    await worker.report("PYTHON_EXCEPTION")
    await dispatcher.stop()
    worker.dispatcher = Dispatcher(secret=SECRET, on_change=lambda job: None, now=clock)
    worker.held = {unanswered["id"]: unanswered}
    await worker.dispatcher.attach(job, store, POOL, fresh=False, live=["a"])
    await worker.poll()
    await worker.report("PYTHON_EXCEPTION")
    assert [claim["attempt"] for claim in worker.held.values()] == [2]
    await worker.report()
    assert results(store) == right(1)


async def test_that_a_job_cannot_run_anywhere_is_answered_when_it_is_durable() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    dispatcher.jobs()[spec().id].output([Output(0, 1, "pod-a", b"printed")])
    fatal = Fatal(spec().id, "InputsCorrupt", "bad")
    await dispatcher.report(worker.identity, {"fatal": fatal}, [])
    (entry,) = [raw for key, raw in store.objects.items() if "/ledger/" in key]
    assert ledger.open_entry(entry).terminal.reason == "InputsCorrupt"  # type: ignore[union-attr]


@pytest.mark.parametrize("seconds", [5e-324, -1.0, float("inf"), float("nan")])
async def test_a_time_that_cannot_be_stops_nobody(seconds: float) -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(50), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    claim = next(iter(worker.held.values()))
    task = claim["tasks"][0][0]
    outcome = Record(task, 1, "SUCCEEDED", "pickle", b"r%d" % task)
    group = {"job": spec().id, "claim": claim["id"], "seconds": seconds}
    await dispatcher.report(
        worker.identity, {}, [(group["job"], group["claim"], [outcome], _seconds(group))]
    )
    dispatcher._look_after_time()
    await Worker(dispatcher, "b").work()
    assert len(results(store)) > 1


async def test_forged_claims_and_results_cost_nothing() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(2), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    worker.held["x"] = {"id": "x-1", "job": spec().id, "attempt": 1, "tasks": [(1, 10**15)]}
    await worker.poll()
    with pytest.raises(ValueError, match="cannot be those"):
        decode({"count": 10**15, "index": [[0, 10**15]], "size": 0}, b"")
    with pytest.raises(ValueError, match="reports task 7 of 2"):
        await dispatcher.report(
            worker.identity, {}, [(spec().id, "x-1", [Record(7, 1, "SUCCEEDED", "json", b"")], 0.0)]
        )
    stolen = Record(1, 1, "SUCCEEDED", "json", b"", Ref("another/key", "0" * 64, 1))
    with pytest.raises(ValueError, match="as a result of its own"):
        await dispatcher.report(worker.identity, {}, [(spec().id, "x-1", [stolen], 0.0)])


async def test_output_that_is_sent_again_is_taken_once() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    said = {"output": {spec().id: [Output(0, 1, "pod-a", b"once")]}, "number": 1}
    for _ in range(3):
        await dispatcher.report(worker.identity, said, [])
    await worker.report()
    chunks = [raw for key, raw in store.objects.items() if "/logs/" in key]
    assert [part.text for raw in chunks for part in open_chunk(raw)] == [b"once"]


async def test_after_a_restart_a_silent_worker_is_waited_for_only_so_long() -> None:
    first, store, _ = make()
    await first.attach(spec(2), store, POOL, fresh=True)
    await first.stop()
    second, _, clock = make(store)
    await second.attach(spec(2), store, POOL, fresh=False, live=["silent"])
    worker = Worker(second, "b")
    assert not (await worker.poll())["claims"]
    clock.now += 60
    await worker.work()
    assert results(store) == right(2)


async def test_two_dispatchers_never_fork_a_ledger() -> None:
    one, store, _ = make()
    two, _, _ = make(store)
    for dispatcher in (one, two):
        await dispatcher.attach(spec(2), store, POOL, fresh=True)
    first, second = Worker(one, "a"), Worker(two, "b")
    await first.poll()
    await second.poll()
    await first.report(most=1)
    with pytest.raises(Exception, match="written by somebody else"):
        await second.report("PYTHON_EXCEPTION", most=1)
    assert two.job(spec().id).problem[0] == "IdInUse"  # type: ignore[union-attr, index]
    assert len(store.objects) == 1


@pytest.mark.parametrize("attack", ["forged entry", "shorter than the status", "changed"])
async def test_a_ledger_that_was_tampered_with_is_not_recovered(attack: str) -> None:
    first, store, _ = make()
    await first.attach(spec(2), store, POOL, fresh=True)
    worker = Worker(first, "a")
    await worker.poll()
    await worker.report(most=1)
    view = first.job(spec().id)
    assert view is not None
    length, digest = view.ledger_length, view.ledger_digest
    key = ledger.key(spec().prefix, length - 1)
    if attack == "forged entry":
        forged = ledger.Entry(n=length, prev=digest, terminal=Terminal("complete", "", ""))
        store.objects[ledger.key(spec().prefix, length)] = ledger.seal(forged, "cluster:uid", b"?")
    elif attack == "changed":
        store.objects[key] = store.objects[key].replace(b"r0", b"R0")
    else:
        del store.objects[key]
    second, _, _ = make(store)
    with pytest.raises(LedgerTampered):
        await second.attach(spec(2), store, POOL, fresh=False, length=length, digest=digest)


async def test_a_cancelled_job_hands_out_nothing_more_and_its_workers_are_told() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(9), store, POOL, fresh=True)
    worker, late = Worker(dispatcher, "a"), Worker(dispatcher, "a")
    await worker.poll()
    late.held = dict(worker.held)
    dispatcher.finish(spec().id, Terminal("cancelled", "Cancelled", "by the user"))
    while dispatcher.job(spec().id).terminal is None:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    assert (await worker.poll())["gone"] == [spec().id]
    assert (await late.report())["gone"] == [spec().id]
    assert results(store) == {}


async def test_no_more_workers_than_parallelism_get_tasks() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(100, parallelism=2), store, POOL, fresh=True)
    workers = [Worker(dispatcher, uid) for uid in "abc"]
    for worker in workers:
        await worker.poll()
    assert [bool(worker.held) for worker in workers] == [True, True, False]
    dispatcher.set_parallelism(spec().id, 3)
    assert (await workers[2].poll())["claims"]


async def test_two_jobs_share_a_pools_workers() -> None:
    dispatcher, store, _ = make()
    jobs = [spec(10, id=letter * 24, prefix=f"p/{letter}") for letter in "xy"]
    for job in jobs:
        await dispatcher.attach(job, store, POOL, fresh=True)
    workers = [Worker(dispatcher, uid) for uid in "ab"]
    claims = [(await worker.poll())["claims"][0]["job"] for worker in workers]
    assert claims == [job.id for job in jobs]


async def test_a_worker_stays_with_its_job_while_that_has_tasks() -> None:
    dispatcher, store, _ = make()
    others = {"id": "o" * 24, "name": "mapjobs.shoal.dev/o", "prefix": "c/n/jobs/o"}
    await dispatcher.attach(spec(60), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    await dispatcher.attach(spec(60, **others), store, POOL, fresh=True)
    jobs = []
    while worker.held:
        jobs += [claim["job"] for claim in worker.held.values()]
        while worker.held:  # then it holds nothing of either job
            await worker.report()
        await worker.poll()
    assert jobs == sorted(jobs)


async def test_a_worker_of_another_pool_gets_and_changes_nothing() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1), store, "somebody else's", fresh=True)
    worker = Worker(dispatcher, "a")
    assert not (await worker.poll())["claims"]
    worker.held["c"] = {"id": "c", "job": spec().id, "attempt": 1, "tasks": [(0, 1)]}
    assert (await worker.report())["gone"] == [spec().id]
    assert dispatcher.url_for_result(worker.identity, spec().id) is None
    assert dispatcher.describe(worker.identity, spec().id) is None
    fatal = Fatal(spec().id, "TaskFailed", "!")
    await dispatcher.report(worker.identity, {"fatal": fatal}, [])
    assert dispatcher.job(spec().id).terminal is None  # type: ignore[union-attr]
    assert store.objects == {}


async def test_idle_workers_leave_but_for_the_pools_minimum() -> None:
    dispatcher, _, clock = make()
    dispatcher.set_pool(POOL, PoolSettings(idle_seconds=300, min_workers=1))
    workers = [Worker(dispatcher, uid) for uid in "abc"]
    for worker in workers:
        await worker.poll()
        clock.now += 1
    clock.now += 299
    for worker in workers:  # they have been heard of since, but had nothing to do
        await worker.poll()
    dispatcher._look_after_time()
    answers = [await worker.poll() for worker in workers]
    assert [answer.get("exit", False) for answer in answers] == [True, True, False]


async def test_a_sign_of_life_is_no_work() -> None:
    dispatcher, _, clock = make()
    dispatcher.set_pool(POOL, PoolSettings(idle_seconds=300))
    worker = Worker(dispatcher, "a")
    await worker.poll()
    for _ in range(60):
        clock.now += 5
        await dispatcher.report(worker.identity, {}, [])
    dispatcher._look_after_time()
    assert (await worker.poll())["exit"]


async def test_the_longest_idle_workers_of_other_pools_make_room() -> None:
    dispatcher, _, clock = make()
    dispatcher.set_pool("kept", PoolSettings(min_workers=1))
    workers = []
    for uid, pool in [("a", "kept"), ("b", POOL), ("c", POOL), ("d", "needy")]:
        worker = Worker(dispatcher, uid)
        worker.identity = dataclasses.replace(worker.identity, pool=pool)
        await worker.poll()
        clock.now += 1
        workers.append(worker)
    assert dispatcher.release_idle(1, besides="needy", namespace="another") == 0
    assert dispatcher.release_idle(1, besides="needy") == 1
    assert dispatcher.release_idle(5, besides="needy") == 1
    answers = [await worker.poll() for worker in workers]
    assert [answer.get("exit", False) for answer in answers] == [False, True, True, False]


async def test_a_job_that_cannot_run_anywhere_ends_at_once_with_its_reason() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(1000), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    error = ("ModuleNotFoundError", "No module named 'numpy'", "Traceback")
    fatal = Fatal(spec().id, "TaskFailed", "no numpy", error)
    await dispatcher.report(worker.identity, {"fatal": fatal}, [])
    while dispatcher.job(spec().id).terminal is None:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    view = dispatcher.job(spec().id)
    assert view is not None
    assert view.terminal == Terminal("failed", "TaskFailed", "no numpy", error)


async def test_an_offer_has_the_url_of_code_that_is_one_object() -> None:
    assert await _offered_code("a") == [{"url": "memory://code/a", "sha256": "a", "size": 5}]


async def test_the_urls_of_many_parts_are_signed_when_a_worker_asks() -> None:
    assert await _offered_code("a", "b") == [{"sha256": "a", "size": 5}, {"sha256": "b", "size": 5}]


async def _offered_code(*parts: str) -> Any:
    dispatcher, store, _ = make()
    refs = tuple(CodePartRef(key=f"code/{part}", sha256=part, size=5) for part in parts)
    await dispatcher.attach(spec(1, code=CodeRef(parts=refs)), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    offered = (await worker.poll())["jobs"][spec().id]["code"]
    described = dispatcher.describe(worker.identity, spec().id)
    assert described is not None
    assert [part["url"] for part in described["code"]["parts"]] == [
        f"memory://code/{part}" for part in parts
    ]
    assert (offered["sysPaths"], offered["workingDirectory"]) == (["."], ".")
    return offered["parts"]
