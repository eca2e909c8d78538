"""The simulation can fail: each way to break the dispatcher is found within a few tries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from book import Violated
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from scenarios import MIXED, TASKS, cases, sequences
from world import play

from shoal import ledger
from shoal.dispatch.assignment import Assignment
from shoal.dispatch.chain import LedgerWriter
from shoal.dispatch.run import Run
from shoal.dispatch.tasks import Tasks

Break = Callable[[pytest.MonkeyPatch], None]

#: Tasks that are tried again where a job allows it.
FAILING = tuple(task for task in TASKS if task.then == "fail")

FEW = settings(
    max_examples=600,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def acknowledges_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    def add_results(self: LedgerWriter, *given: Any) -> asyncio.Future[None]:
        real(self, *given)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    real = LedgerWriter.add_results
    patch.setattr(LedgerWriter, "add_results", add_results)


def forgets_charges_when_it_recovers(patch: pytest.MonkeyPatch) -> None:
    def replay(self: Run, entry: ledger.Entry) -> None:
        real(self, ledger.Entry(**{**vars(entry), "charges": ()}))

    real = Run._replay
    patch.setattr(Run, "_replay", replay)


def charges_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    def charge_then(self: Run, index: int, kind: Any, then: Callable[[], None]) -> Any:
        done = self.chain.add_charge(ledger.Charge(index, kind))
        self._tasks.charge(index, kind)
        then()
        self._on_work()
        return done

    patch.setattr(Run, "_charge_then", charge_then)


def never_takes_claims_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Assignment, "take_back", lambda self, claim: [])


def adopts_claims_of_older_attempts(patch: pytest.MonkeyPatch) -> None:
    def adopt(self: Assignment, claim: str, worker: str, pool: str, tasks: Any, _: int) -> None:
        first = tasks[0][0]
        real(self, claim, worker, pool, tasks, self._tasks.attempt_of(first))

    real = Assignment.adopt
    patch.setattr(Assignment, "adopt", adopt)


def waits_for_nobody_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Assignment, "hold", lambda self, until, pods: None)


def takes_disruptions_for_attempts(patch: pytest.MonkeyPatch) -> None:
    def disrupted(self: Run, index: int, why: str, where: tuple[str, str]) -> None:
        if self._tasks.may_retry(index):
            self._retry(index)
        else:
            real(self, index, why, where)

    real = Run._disrupted
    patch.setattr(Run, "_disrupted", disrupted)


def knows_no_parallelism(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Assignment, "_has_room", lambda self, worker, pool: True)


def keeps_the_place_of_who_went_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Assignment, "leaves", lambda self, worker: None)


def takes_a_second_result(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tasks, "is_over", lambda self, index: False)


def writes_over_entries(patch: pytest.MonkeyPatch) -> None:
    async def create(self: LedgerWriter, key: str, raw: bytes) -> None:
        if not await self._store.create(key, raw):
            await self._store.create(key + "-again", raw)

    patch.setattr(LedgerWriter, "_create", create)


@pytest.mark.parametrize(
    ("breaks", "found"),
    [
        (acknowledges_before_it_is_durable, "is acknowledged, and not durable"),
        (forgets_charges_when_it_recovers, "charged|it is [23]"),
        (charges_before_it_is_durable, "it is 1"),
        (never_takes_claims_back, "not over after"),
        (adopts_claims_of_older_attempts, "in attempt 1, 1 charged"),
        (waits_for_nobody_after_a_restart, "told what they hold"),
        (takes_disruptions_for_attempts, "which did not fail"),
        (knows_no_parallelism, "of [1-4] workers"),
        (takes_a_second_result, "for the second time|is over, and handed out again"),
        (keeps_the_place_of_who_went_on, "idles, and"),
        (writes_over_entries, "ledger|entries|less is there"),
    ],
    ids=lambda given: getattr(given, "__name__", "found"),
)
def test_a_dispatcher_is_found_out_that(
    breaks: Break, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_found_out(drawn: tuple[Any, Any]) -> bool:
        try:
            play(*drawn)
        except Violated as violated:
            said.append(str(violated))
            return re.search(found, said[-1]) is not None
        return False

    said: list[str] = []
    monkeypatch.setattr(ledger, "ROLL_UP", 4)
    breaks(monkeypatch)
    tasks = FAILING if breaks is adopts_claims_of_older_attempts else MIXED
    some = {"jobs": 2, "more_memory": False} if breaks is keeps_the_place_of_who_went_on else {}
    try:
        find(st.tuples(cases(tasks, **some), sequences()), is_found_out, settings=FEW)
    except NoSuchExample:
        pytest.fail(f"{FEW.max_examples} sequences found only {set(said)}")
