"""Commands without a bucket: the Pod's exit code is the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shoal_operator.direct import plan_direct, size_of
from shoal_operator.reasons import Reason

Make = Callable[..., Any]
SPEC = {"command": ["true"]}
NOW = 2000.0


def test_a_pod_is_made_once(job: Make, pod: Make) -> None:
    assert plan_direct(job(SPEC), [], 0, NOW).create == 1
    assert not plan_direct(job(SPEC), [pod()], 0, NOW).create


def test_its_exit_code_is_the_result(job: Make, pod: Make) -> None:
    good = plan_direct(job(SPEC), [pod(exit_code=0, phase="Succeeded")], 0, NOW)
    assert good.outcome is not None
    assert (good.outcome.phase, good.outcome.exit_code) == ("Complete", 0)
    bad = plan_direct(job(SPEC), [pod(exit_code=3, phase="Failed")], 0, NOW)
    assert bad.outcome is not None
    assert (bad.outcome.reason, bad.outcome.exit_code) == (Reason.COMMAND_FAILED, 3)


def test_attempts_are_counted_by_pods(job: Make, pod: Make) -> None:
    failed = [pod("a", exit_code=1, phase="Failed")]
    assert plan_direct(job(SPEC | {"maxAttempts": 2}), failed, 0, NOW).create == 1
    twice = [*failed, pod("b", exit_code=1, phase="Failed")]
    assert plan_direct(job(SPEC | {"maxAttempts": 2}), twice, 0, NOW).outcome is not None


@pytest.mark.parametrize(
    ("backoff", "failures", "pause"), [(None, 1, 1), (5, 1, 5), (5, 3, 20), (0, 3, 0), (90, 3, 90)]
)
def test_the_pause_before_the_next_attempt_doubles(
    job: Make, pod: Make, backoff: int | None, failures: int, pause: int
) -> None:
    spec = SPEC | {"maxAttempts": 9} | ({} if backoff is None else {"backoffSeconds": backoff})
    ended = [
        pod(str(n), exit_code=1, phase="Failed", created=1000.0 + n, finished=NOW - failures + n)
        for n in range(1, failures + 1)
    ]
    early = plan_direct(job(spec), ended, 0, NOW + pause - 0.5)
    assert (early.create, early.wake_at) == (0, NOW + pause)
    assert plan_direct(job(spec), ended, 0, NOW + pause).create == 1


def test_each_attempt_gets_more_memory_when_that_is_asked_for(job: Make, pod: Make) -> None:
    more = job(SPEC | {"maxAttempts": 3, "retryWithMoreMemory": True})
    ended = [pod("a", exit_code=137, exit_reason="OOMKilled", phase="Failed")]
    assert plan_direct(more, ended, 0, NOW).create == 2
    evicted = pod("b", exit_code=137, disrupted="EvictionByEvictionAPI", phase="Failed")
    assert plan_direct(more, [*ended, evicted], 0, NOW).create == 2
    assert size_of(more, [*ended, evicted]) == 2
    assert size_of(job(SPEC | {"maxAttempts": 3}), ended) == 1
    assert size_of(job(SPEC | {"retryWithMoreMemory": True}), ended) == 1


def test_a_pod_that_takes_too_long_is_an_attempt(job: Make, pod: Make) -> None:
    spec = SPEC | {"taskTimeoutSeconds": 5}
    late = pod("a", phase="Failed", reason="DeadlineExceeded")
    assert plan_direct(job(spec | {"maxAttempts": 2}), [late], 0, NOW).create == 1
    stopped = pod("b", phase="Failed", reason="DeadlineExceeded", exit_code=0)
    for pods in ([late], [stopped]):
        outcome = plan_direct(job(spec), pods, 0, NOW).outcome
        assert outcome is not None
        assert (outcome.phase, outcome.reason) == ("Failed", Reason.COMMAND_FAILED)
        assert outcome.message.endswith("took longer than its 5 s")
        assert outcome.error is not None
        assert outcome.error["type"] == "TaskTimeout"


def test_disruptions_are_not_attempts(job: Make, pod: Make) -> None:
    assert plan_direct(job(SPEC), [], 5, NOW).create
    over = plan_direct(job(SPEC), [], 6, NOW)
    assert over.outcome is not None
    assert over.outcome.reason is Reason.DISRUPTIONS_EXCEEDED
    evicted = [pod("a", phase="Failed", exit_code=137, disrupted="EvictionByEvictionAPI")]
    assert plan_direct(job(SPEC), evicted, 0, NOW).create
    deleted = [pod("a", phase="Failed", exit_code=143, deleting=True)]
    assert plan_direct(job(SPEC), deleted, 0, NOW).create


def test_a_suspended_command_has_no_pod(job: Make, pod: Make) -> None:
    paused = job(SPEC | {"suspend": True})
    assert not plan_direct(paused, [], 0, NOW).create
    running = [pod("a", started=1.0), pod("gone", deleting=True)]
    assert plan_direct(paused, running, 0, NOW).delete == ("a",)
    done = plan_direct(paused, [pod(exit_code=0, phase="Succeeded")], 0, NOW)
    assert done.outcome is not None
    assert done.outcome.phase == "Complete"
