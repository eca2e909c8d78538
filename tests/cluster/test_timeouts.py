"""Three limits of time, told apart: a task's, a job's, and that of Pods that can't start."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from ledgers import read
from namespaces import Place, condition

import shoal
from shoal.errors import DeadlineExceeded, QuotaExceeded, Unschedulable
from shoal.kube import Resource

HERE = shoal.Deployment()
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")


async def test_a_tasks_time_is_over_and_the_others_go_on(user: Place) -> None:
    def nap(item: int) -> int:
        if item == 2:
            time.sleep(600)
        return item

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(
            nap,
            range(6),
            user.host(),
            None,
            HERE,
            num_concurrent_tasks=1,
            max_num_task_attempts=2,
            task_timeout_seconds=1,
            name="naps",
        )
    assert caught.value.results == [0, 1, None, 3, 4, 5]
    (failed,) = caught.value.failed
    assert (failed.task_id, failed.state, failed.attempt) == (2, "TIMED_OUT", 2)
    assert failed.exception is not None
    assert failed.exception[0] == "TaskTimeout"
    assert "longer than its 1 s" in failed.exception[1]
    book = await read(user, (await user.get("MapJob", "naps"))["status"])
    assert [(charge.index, charge.kind) for charge in book.charges] == [(2, "attempt")]


async def test_a_task_that_ignores_sigterm_is_ended_all_the_same(user: Place) -> None:
    def stubborn() -> None:
        import signal

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)

    async with asyncio.timeout(30):
        with pytest.raises(shoal.TaskException, match="longer than its 1 s"):
            await shoal.run_function(stubborn, user.host(), None, HERE, task_timeout_seconds=1)


async def test_a_jobs_time_is_over_and_results_so_far_stay(user: Place) -> None:
    spec: dict[str, Any] = {
        "function": {"name": "time.sleep"},
        "items": {"inline": [0, 0, 600]},
        "parallelism": 1,
        "activeDeadlineSeconds": 3,
    }
    status = await user.run("MapJob", "late", spec)
    assert (status["phase"], status["succeeded"]) == ("Failed", 2)
    assert condition(status, "Failed")["reason"] == "DeadlineExceeded"
    handle = await shoal.attach("late", user.host())
    with pytest.raises(DeadlineExceeded, match="late"):
        await handle.result()
    book = await read(user, status)
    assert sorted(book.values()) == [0, 1]
    assert [(end.outcome, end.reason) for end in book.terminal] == [("failed", "DeadlineExceeded")]


async def test_pods_that_find_no_node_fail_the_job_with_the_schedulers_words(user: Place) -> None:
    spec: dict[str, Any] = {
        "function": {"name": "math.gcd", "args": [12, 18]},
        "resources": {"cpu": "1000"},
        "startDeadlineSeconds": 2,
    }
    status = await user.run("Job", "huge", spec, seconds=40)
    failed = condition(status, "Failed")
    assert failed["reason"] == "Unschedulable"
    assert "Insufficient cpu" in failed["message"]
    with pytest.raises(Unschedulable, match="Insufficient cpu"):
        await (await shoal.attach("huge", user.host())).result()
    await user.until_pods(lambda pods: not pods)


async def test_pods_that_a_quota_refuses_fail_the_job_with_its_words(user: Place) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    await user.api.create(QUOTAS, quota, user.namespace)
    spec = {"function": {"name": "math.gcd", "args": [12, 18]}, "startDeadlineSeconds": 2}
    status = await user.run("Job", "refused", spec, seconds=40)
    assert condition(status, "Failed")["reason"] == "QuotaExceeded"
    with pytest.raises(QuotaExceeded, match="exceeded quota: none"):
        await (await shoal.attach("refused", user.host())).result()
