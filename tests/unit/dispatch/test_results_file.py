"""The file with a map's results, for readers without Python: there at the end, whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory_store import MemoryStore
from playing import POOL, SECRET, Worker, make, results, right, spec

from shoal import ledger
from shoal.dispatch import Dispatcher
from shoal.errors import AccessDenied, StorageUnavailable

JOB = spec(4, inline={"function": {"name": "m.f"}, "items": [1, 2, 3, 4]})
FILE = f"{JOB.prefix}/results.jsonl"


async def ended(dispatcher: Dispatcher) -> Any:
    """Wait for the job's end; return its view."""
    while (view := dispatcher.job(JOB.id)) is None or view.terminal is None:
        await asyncio.sleep(0.01)
    return view


async def again(store: MemoryStore) -> Dispatcher:
    """Return a dispatcher that has recovered the job."""
    dispatcher = Dispatcher(secret=SECRET, on_change=lambda job: None)
    await dispatcher.attach(JOB, store, POOL, fresh=False)
    return dispatcher


async def test_a_result_that_is_no_json_stands_in_the_file_as_text() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(JOB, store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    view = await ended(dispatcher)
    lines = store.objects[FILE].decode().splitlines()
    assert lines[1] == '{"index": 1, "state": "SUCCEEDED", "result": "r1"}'
    assert (view.succeeded, view.results_file) == (4, FILE)


async def test_a_job_whose_results_are_all_there_ends_after_a_restart() -> None:
    """The file is written between the last results and the end."""
    dispatcher, store, _ = make()
    await dispatcher.attach(JOB, store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    await ended(dispatcher)
    last = max(key for key in store.objects if "/ledger/" in key)
    assert not ledger.open_entry(store.objects[last]).records
    del store.objects[last]  # as if the operator had died just before
    await ended(await again(store))
    assert results(store) == right(4)


async def test_an_operator_that_died_after_the_end_leaves_the_file_to_be_told() -> None:
    dispatcher, store, _ = make()
    await dispatcher.attach(JOB, store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    await ended(dispatcher)
    assert (await ended(await again(store))).results_file == FILE
    del store.objects[FILE]
    assert (await ended(await again(store))).results_file == FILE
    assert FILE in store.objects


@pytest.mark.parametrize("away", [True, False])
async def test_a_bucket_that_is_away_is_waited_for_and_one_that_refuses_is_not(
    away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.dispatch.patience.BACKOFFS", (0.001,))
    monkeypatch.setattr("shoal.dispatch.results_file.REFUSED_SECONDS", 0.008)
    dispatcher, store, _ = make()
    tries: list[str] = []

    def trouble(verb: str, key: str) -> None:
        if key == FILE and len(tries) < 20:
            tries.append(verb)
            raise StorageUnavailable("no answer") if away else AccessDenied("not this key")

    store.trouble = trouble
    await dispatcher.attach(JOB, store, POOL, fresh=True)
    await Worker(dispatcher, "a").work()
    view = await ended(dispatcher)
    assert (view.results_file, view.problem) == (FILE if away else "", None)
    assert len(tries) == (20 if away else 8)
