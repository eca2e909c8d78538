"""After a restart workers speak of jobs before these are attached again: all of it counts later."""

from __future__ import annotations

import pytest
from memory_store import MemoryStore
from playing import POOL, SECRET, Clock, Worker, make, results, right, spec

from shoal.dispatch import Dispatcher, PoolSettings
from shoal.dispatch.logbook import Output, open_chunk
from shoal.dispatch.model import Fatal, NotAttachedYet
from shoal.ledger import Terminal

OTHER = {"id": "o" * 24, "name": "mapjobs.shoal.dev/o", "prefix": "c/n/jobs/o"}


def waiting(clock: Clock | None = None) -> Dispatcher:
    """Return a dispatcher that knows of jobs which are still to be attached."""
    return Dispatcher(
        secret=SECRET,
        on_change=lambda job: None,
        is_known=lambda job: True,
        now=clock or Clock(),
    )


async def test_workers_of_a_job_that_cannot_be_attached_yet_wait() -> None:
    dispatcher = waiting()
    worker = Worker(dispatcher, "a")
    worker.held["c-1"] = {"id": "c-1", "job": spec().id, "attempt": 1, "tasks": [(0, 1)]}
    assert not (await worker.poll()).get("gone")
    answer = await worker.report()
    assert (answer["gone"], answer["later"]) == ([], [spec().id])


async def test_output_of_a_job_that_is_not_attached_yet_comes_again() -> None:
    dispatcher = waiting()
    store, worker = MemoryStore(), Worker(dispatcher, "a")
    said = {"output": {spec().id: [Output(0, 1, "pod-a", b"once")]}, "number": 7}
    early = await dispatcher.report(worker.identity, said, [])
    assert (early["gone"], early["later"]) == ([], [spec().id])
    await dispatcher.attach(spec(1), store, POOL, fresh=False)
    for _ in range(2):  # its first answer may be lost
        assert not (await dispatcher.report(worker.identity, said, []))["later"]
    dispatcher.finish(spec().id, Terminal("cancelled", "Cancelled", ""))
    await dispatcher.jobs()[spec().id].settled()
    (chunk,) = [raw for key, raw in store.objects.items() if "/logs/" in key]
    assert [output.text for output in open_chunk(chunk)] == [b"once"]


async def test_a_worker_that_is_at_one_gets_no_tasks_of_another_and_does_not_leave() -> None:
    first, store, clock = make()
    await first.attach(spec(1), store, POOL, fresh=True)
    worker = Worker(first, "a")
    await worker.poll()
    await first.stop()

    second = worker.dispatcher = waiting(clock)
    second.set_pool(POOL, PoolSettings(idle_seconds=1.0))
    await second.attach(spec(3, **OTHER), MemoryStore(), POOL, fresh=True)
    assert not (await worker.poll())["claims"]
    assert second.pool(POOL).idle == 0
    clock.now += 2.0
    second._look_after_time()
    assert "exit" not in await worker.poll()
    await second.attach(spec(1), store, POOL, fresh=False, live=["a"])
    await worker.report()
    assert results(store) == right(1)
    assert (await worker.poll())["claims"]


async def test_a_large_result_is_not_given_up() -> None:
    dispatcher, worker = waiting(), Worker(waiting(), "a")
    for ask in (dispatcher.url_for_result, dispatcher.describe):
        with pytest.raises(NotAttachedYet):
            ask(worker.identity, spec().id)


async def test_that_one_can_run_nowhere_is_said_again() -> None:
    dispatcher, store = waiting(), MemoryStore()
    identity = Worker(dispatcher, "a").identity
    said = {"fatal": Fatal(spec().id, "TaskFailed", "no numpy"), "number": 1}
    assert (await dispatcher.report(identity, said, []))["later"] == [spec().id]
    await dispatcher.attach(spec(3), store, POOL, fresh=False)
    assert not (await dispatcher.report(identity, said, []))["later"]
    view = dispatcher.job(spec().id)
    assert view is not None
    assert view.terminal == Terminal("failed", "TaskFailed", "no numpy")


async def test_the_last_words_of_a_worker_that_is_gone_are_taken_once() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(spec(2), store, POOL, fresh=True)
    worker = Worker(dispatcher, "a")
    await worker.poll()
    dispatcher.worker_gone("a", "it was deleted")
    said = {"output": {spec().id: [Output(0, 1, "pod-a", b"once")]}, "number": 1}
    for _ in range(3):
        await dispatcher.report(worker.identity, said, [])
    await Worker(dispatcher, "b").work()
    chunks = [raw for key, raw in store.objects.items() if "/logs/" in key]
    assert [part.text for raw in chunks for part in open_chunk(raw)] == [b"once"]
