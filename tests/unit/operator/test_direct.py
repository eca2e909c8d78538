"""Commands without a bucket: the Pod's exit code is the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shoal_operator.direct import plan_direct
from shoal_operator.reasons import Reason

Make = Callable[..., Any]
SPEC = {"command": ["true"]}


def test_a_pod_is_made_once(job: Make, pod: Make) -> None:
    assert plan_direct(job(SPEC), [], 0).create
    assert not plan_direct(job(SPEC), [pod()], 0).create


def test_its_exit_code_is_the_result(job: Make, pod: Make) -> None:
    good = plan_direct(job(SPEC), [pod(exit_code=0, phase="Succeeded")], 0)
    assert good.outcome is not None
    assert (good.outcome.phase, good.outcome.exit_code) == ("Complete", 0)
    bad = plan_direct(job(SPEC), [pod(exit_code=3, phase="Failed")], 0)
    assert bad.outcome is not None
    assert (bad.outcome.reason, bad.outcome.exit_code) == (Reason.COMMAND_FAILED, 3)


def test_attempts_are_counted_by_pods(job: Make, pod: Make) -> None:
    failed = [pod("a", exit_code=1, phase="Failed")]
    assert plan_direct(job(SPEC | {"maxAttempts": 2}), failed, 0).create
    twice = [*failed, pod("b", exit_code=1, phase="Failed")]
    assert plan_direct(job(SPEC | {"maxAttempts": 2}), twice, 0).outcome is not None


def test_disruptions_are_not_attempts(job: Make, pod: Make) -> None:
    assert plan_direct(job(SPEC), [], 5).create
    over = plan_direct(job(SPEC), [], 6)
    assert over.outcome is not None
    assert over.outcome.reason is Reason.DISRUPTIONS_EXCEEDED
    evicted = [pod("a", phase="Failed", exit_code=137, disrupted="EvictionByEvictionAPI")]
    assert plan_direct(job(SPEC), evicted, 0).create
