"""Random faults, restarts and orders in virtual time: what the dispatcher promises always holds.

Each sequence is a list of events, so that one which fails shrinks to the few that matter, and can
be played again: `play(case, events)`. `SHOAL_SEQUENCES=20000` plays so many, other ones each time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from scenarios import GENTLE, GOOD, Case, Event, cases, sequences
from world import play

from shoal import ledger

SEQUENCES = int(os.environ.get("SHOAL_SEQUENCES") or 0)

PROFILE = settings(
    max_examples=SEQUENCES or 1000,
    derandomize=not SEQUENCES,
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def short_roll_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ROLL_UP", 4)


@pytest.mark.timeout(0 if SEQUENCES else 900)
@PROFILE
@given(case=cases(), events=sequences())
def test_every_job_ends_as_it_must(case: Case, events: list[Event]) -> None:
    play(case, events)


@settings(PROFILE, max_examples=PROFILE.max_examples // 4)
@given(case=cases(GOOD, speculation=False), events=sequences(GENTLE))
def test_restarts_alone_repeat_nothing(case: Case, events: list[Event]) -> None:
    for job in play(case, events).jobs.values():
        assert set(job.book.runs.values()) == {1}, "a task that succeeds ran more than once"
