"""Statuses: made from what is known, stable while nothing changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shoal.dispatch import JobView
from shoal.ledger import Terminal
from shoal.worker.records import Record, Ref
from shoal_operator.crews import Crew
from shoal_operator.reasons import Reason
from shoal_operator.resolve import Problem, resolve
from shoal_operator.settings import Settings
from shoal_operator.status import (
    JobFacts,
    Outcome,
    duration,
    job_status,
    merge_conditions,
    merge_patch,
    outcome_of,
)
from shoal_operator.statuswriting import is_first_word, is_urgent
from shoal_operator.trouble import Trouble

Make = Callable[..., Any]
WORKING = (Crew(wanted=1, connected=1),)


@pytest.fixture
def facts(job: Make, settings: Settings) -> JobFacts:
    made = job()
    return JobFacts(
        job=made,
        resolution=resolve(made, lambda _: None, settings),
        view=JobView(total=1),
        outcome=None,
        problem=None,
        crews=(Crew(wanted=1),),
        working=False,
        accepted=1_767_225_600.0,
        now=1_767_225_603.5,
    )


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    (found,) = [c for c in status["conditions"] if c["type"] == type_]
    return dict(found)


def ended(facts: JobFacts, terminal: Terminal, record: Record | None = None) -> dict[str, Any]:
    good = terminal.outcome == "complete"
    view = JobView(
        total=1,
        succeeded=int(good),
        failed=int(not good),
        ledger_length=1,
        ledger_digest="d",
        terminal=terminal,
        only_record=record,
    )
    return job_status(replace(facts, view=view, outcome=outcome_of(view)))


def test_a_new_job_is_pending(facts: JobFacts) -> None:
    status = job_status(facts)
    assert (status["phase"], status["progress"]) == ("Pending", "0/1")
    assert condition(status, "Running")["status"] == "False"


def test_a_job_in_hand_is_running(facts: JobFacts) -> None:
    status = job_status(replace(facts, working=True, crews=WORKING))
    assert status["phase"] == "Running"
    assert condition(status, "WorkersReady")["status"] == "True"


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "9223372036854775808", '{"a": "\\ud800"}'])
def test_a_result_that_kubernetes_would_change_is_left_out(facts: JobFacts, text: str) -> None:
    record = Record(0, 1, "SUCCEEDED", "json", text.encode())
    status = ended(facts, Terminal("complete", "", ""), record)
    assert status["phase"] == "Complete"
    assert "result" not in status


def test_a_complete_job_carries_its_small_result(facts: JobFacts) -> None:
    record = Record(0, 1, "SUCCEEDED", "json", b'{"a": 6}')
    status = ended(facts, Terminal("complete", "", ""), record)
    assert status["phase"] == "Complete"
    assert status["result"] == {"a": 6}
    assert status["completionTime"] == "2026-01-01T00:00:03Z"
    assert status["duration"] == "3.5s"
    assert condition(status, "Complete")["status"] == "True"
    assert condition(status, "Finished")["status"] == "True"


@pytest.mark.parametrize(
    "record",
    [
        Record(0, 1, "SUCCEEDED", "json", json.dumps("x" * 5000).encode()),
        Record(0, 1, "SUCCEEDED", "pickle", b"\x80"),
        Record(0, 1, "SUCCEEDED", "json", b"", Ref("key", "0" * 64, 9)),
    ],
)
def test_large_and_pickled_results_stay_in_the_bucket(facts: JobFacts, record: Record) -> None:
    assert "result" not in ended(facts, Terminal("complete", "", ""), record)


def test_a_failed_command_shows_its_exit_code(facts: JobFacts) -> None:
    record = Record(0, 1, "NON_ZERO_RETURN_CODE", "exit", b'{"returnCode": 3, "lastLines": ""}')
    status = ended(facts, Terminal("failed", "CommandFailed", "1 of 1 tasks failed"), record)
    assert (status["phase"], status["exitCode"]) == ("Failed", 3)
    assert condition(status, "Failed")["reason"] == "CommandFailed"


def test_a_failed_function_shows_the_end_of_its_traceback(facts: JobFacts) -> None:
    text = json.dumps(["ValueError", "no", "x" * 9000 + "the end"]).encode()
    record = Record(0, 1, "PYTHON_EXCEPTION", "error", text)
    error = ended(facts, Terminal("failed", "TaskFailed", "failed"), record)["error"]
    assert (error["type"], error["message"]) == ("ValueError", "no")
    assert len(error["traceback"]) == 4096
    assert error["traceback"].endswith("the end")


def test_an_unknown_reason_in_the_ledger_becomes_a_known_one(facts: JobFacts) -> None:
    status = ended(facts, Terminal("failed", "Whatever", "text"))
    assert condition(status, "Failed")["reason"] == "TaskFailed"


def test_a_cancelled_job_has_failed_as_a_condition(facts: JobFacts) -> None:
    status = ended(facts, Terminal("cancelled", "Cancelled", ""))
    assert status["phase"] == "Cancelled"
    assert condition(status, "Failed")["reason"] == "Cancelled"


def test_problem_and_trouble_are_told(facts: JobFacts) -> None:
    held = replace(
        facts,
        problem=Problem(Reason.SECRET_NOT_FOUND, "no Secret"),
        crews=(Crew(wanted=1, trouble=Trouble(Reason.UNSCHEDULABLE, "no cpu")),),
    )
    status = job_status(held)
    assert condition(status, "Running")["reason"] == "SecretNotFound"
    assert condition(status, "WorkersReady")["message"] == "no cpu"


def test_a_job_that_has_begun_says_what_holds_it_up(facts: JobFacts) -> None:
    away = Problem(Reason.STORAGE_UNAVAILABLE, "the bucket does not answer")
    status = job_status(replace(facts, working=True, problem=away))
    assert status["phase"] == "Running"
    assert condition(status, "Running")["reason"] == "StorageUnavailable"


def test_a_job_that_goes_on_says_who_is_missing(facts: JobFacts, job: Make) -> None:
    short = Crew(
        wanted=4, connected=2, trouble=Trouble(Reason.QUOTA_EXCEEDED, "quota q is used up")
    )
    status = job_status(replace(facts, working=True, crews=(short,)))
    assert condition(status, "WorkersReady")["status"] == "True"
    missing = condition(status, "WorkersMissing")
    assert (missing["status"], missing["reason"]) == ("True", "QuotaExceeded")
    assert missing["message"] == "2 of 4 workers are missing: quota q is used up"
    later = replace(facts, working=True, crews=WORKING, job=job(status=status))
    assert condition(job_status(later), "WorkersMissing")["status"] == "False"


def test_nobody_is_missing_while_workers_start(facts: JobFacts) -> None:
    status = job_status(replace(facts, working=True, crews=(Crew(wanted=4, connected=1),)))
    assert "WorkersMissing" not in {c["type"] for c in status["conditions"]}


def suspended(facts: JobFacts, job: Make, status: dict[str, Any]) -> JobFacts:
    spec = {"function": {"name": "f.f"}, "suspend": True}
    return replace(facts, job=job(spec, status=status), crews=())


def test_a_suspended_job_says_so_and_asks_for_nobody(facts: JobFacts, job: Make) -> None:
    running = job_status(replace(facts, working=True, crews=WORKING))
    status = job_status(suspended(facts, job, running))
    assert (status["phase"], status["workers"]) == ("Suspended", {"ready": 0, "wanted": 0})
    assert status["startTime"] == running["startTime"]
    for type_, holds in [("Suspended", "True"), ("Running", "False"), ("WorkersReady", "False")]:
        found = condition(status, type_)
        assert (found["status"], found["reason"]) == (holds, "Suspended")


def test_time_begins_anew_when_a_suspended_job_goes_on(facts: JobFacts, job: Make) -> None:
    paused = job_status(suspended(facts, job, {}))
    assert "startTime" not in paused
    went_on = replace(facts, job=job(status=paused), accepted=facts.accepted + 60)
    status = job_status(went_on)
    assert (status["phase"], status["startTime"]) == ("Pending", "2026-01-01T00:01:00Z")
    found = condition(status, "Suspended")
    assert (found["status"], found["reason"]) == ("False", "Resumed")
    later = replace(facts, job=job(status=status), now=facts.now + 99)
    assert job_status(later)["startTime"] == "2026-01-01T00:01:00Z"


def test_a_suspended_job_can_be_cancelled(facts: JobFacts, job: Make) -> None:
    paused = suspended(facts, job, {})
    end = Outcome("Cancelled", Reason.CANCELLED, "cancelled by spec.cancel")
    status = job_status(replace(paused, view=None, outcome=end))
    assert status["phase"] == "Cancelled"
    assert status["startTime"]
    assert "Suspended" not in {c["type"] for c in status["conditions"]}


def test_nothing_new_is_no_patch(facts: JobFacts, job: Make) -> None:
    status = job_status(facts)
    later = replace(facts, job=job(status=status), now=facts.now + 99)
    assert merge_patch(status, job_status(later)) == {}


def test_a_finished_status_does_not_tick(facts: JobFacts, job: Make) -> None:
    status = ended(facts, Terminal("complete", "", ""))
    later = replace(facts, job=job(status=status), now=facts.now + 99)
    assert merge_patch(status, ended(later, Terminal("complete", "", ""))) == {}


def test_the_transition_time_moves_only_with_the_status() -> None:
    made = [("Running", True, Reason.RUNNING, "a")]
    first = merge_conditions([], made, generation=1, now=0.0)
    same = merge_conditions(first, [("Running", True, Reason.RUNNING, "b")], generation=2, now=50.0)
    other = merge_conditions(
        same, [("Running", False, Reason.PENDING, "c")], generation=2, now=90.0
    )
    assert same[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert same[0]["message"] == "b"
    assert other[0]["lastTransitionTime"] == "1970-01-01T00:01:30Z"


def test_merge_patches_remove_what_is_gone_and_go_deep() -> None:
    old = {"a": 1, "b": {"c": 1, "d": 2}, "e": [1]}
    new = {"b": {"c": 1, "d": 3}, "e": [1]}
    assert merge_patch(old, new) == {"a": None, "b": {"d": 3}}


def test_a_result_that_is_none_is_written() -> None:
    assert merge_patch({}, {"result": None}) == {"result": None}


def test_first_results_and_changes_of_state_are_urgent() -> None:
    quiet = {"phase": "Running", "succeeded": 3, "conditions": []}
    assert not is_urgent(quiet, quiet | {"succeeded": 4})
    assert is_urgent(quiet | {"succeeded": 0}, quiet | {"succeeded": 1})
    assert is_urgent(quiet, quiet | {"phase": "Complete"})
    bad = {"type": "WorkersReady", "status": "False", "reason": "Unschedulable"}
    assert is_urgent(quiet, quiet | {"conditions": [bad]})


def test_only_a_first_word_waits() -> None:
    assert is_first_word({}, {"phase": "Running", "succeeded": 0})
    assert not is_first_word({}, {"phase": "Running", "succeeded": 1})
    assert not is_first_word({}, {"phase": "Complete", "succeeded": 1})


@pytest.mark.parametrize(
    ("span", "text"),
    [(0.34, "340ms"), (1.26, "1.3s"), (12.4, "12s"), (184, "3m4s"), (7500, "2h5m")],
)
def test_durations_are_for_people(span: float, text: str) -> None:
    assert duration(span) == text
