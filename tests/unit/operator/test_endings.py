"""How a Pod ended decides what is charged, and to which task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shoal_operator.endings import (
    end_of,
    ended_by_itself,
    ending,
    gone_reason,
    running_task,
)

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"exit_reason": "OOMKilled", "exit_code": 137}, "oom"),
        # cgroup v1: the kernel killed the child alone, the worker ended well and later
        ({"exit_reason": "OOMKilled", "exit_code": 0, "phase": "Succeeded"}, "exited"),
        # memory of the node, or a stale word of the runtime
        ({"exit_reason": "OOMKilled", "exit_code": 137, "reason": "Evicted"}, "evicted"),
        ({"reason": "Evicted", "phase": "Failed"}, "evicted"),
        ({"reason": "Preempting", "phase": "Failed"}, "evicted"),
        ({"disrupted": "PreemptionByScheduler", "deleting": True}, "evicted"),
        ({"disrupted": "EvictionByEvictionAPI", "deleting": True}, "evicted"),
        ({"disrupted": "TerminationByKubelet", "exit_code": 137}, "evicted"),
        ({"disrupted": "TerminationByKubelet", "reason": "Terminated"}, "node_lost"),
        ({"disrupted": "DeletionByTaintManager", "deleting": True}, "node_lost"),
        ({"disrupted": "DeletionByPodGC", "phase": "Failed"}, "node_lost"),
        ({"exit_reason": "ContainerStatusUnknown", "exit_code": 137}, "node_lost"),
        ({"exit_reason": "Unknown", "exit_code": 255}, "node_lost"),
        ({"deleting": True}, "deleted"),
        ({"exit_code": 0, "phase": "Succeeded"}, "exited"),
        ({"exit_code": 1, "phase": "Failed"}, "exited"),
    ],
)
def test_why_a_worker_is_gone(pod: Make, fields: dict[str, object], reason: str) -> None:
    assert gone_reason(pod(**fields)) == reason
    assert gone_reason(None) == "deleted"


@pytest.mark.parametrize(
    ("fields", "unknown", "cause"),
    [
        ({"exit_code": 139, "exit_reason": "Error"}, True, "disruption"),
        ({"exit_code": 137, "exit_reason": "OOMKilled"}, True, "oom"),
        ({"exit_code": 137, "reason": "Evicted"}, False, "disruption"),
        ({"exit_code": 143, "deleting": True}, False, "disruption"),
        ({"exit_code": 137, "exit_reason": "ContainerStatusUnknown"}, False, "disruption"),
        ({"exit_code": 0}, False, "disruption"),
    ],
)
def test_only_a_death_of_its_own_may_be_any_tasks_fault(
    pod: Make, fields: dict[str, object], unknown: bool, cause: str
) -> None:
    told = ending(pod(**fields))
    assert (told.unknown, told.cause, told.running) == (unknown, cause, None)
    noted = ending(pod(termination_message="job-uid 7 2    ", **fields))
    assert (noted.unknown, noted.running) == (False, ("job-uid", 7))


def test_the_kubelets_words_go_with_the_reason(pod: Make) -> None:
    evicted = pod(reason="Evicted", phase="Failed", message="low on resource: ephemeral-storage")
    assert ending(evicted).why == "evicted: low on resource: ephemeral-storage"
    assert ending(None).why == "deleted"


@pytest.mark.parametrize("note", ["", "    ", "something else", "job 7", "job x 1", "a b c d"])
def test_a_note_that_names_no_task(note: str) -> None:
    assert running_task(note) is None


def test_how_a_pod_ended_is_told_to_people(pod: Make) -> None:
    died = pod(exit_code=137, exit_reason="OOMKilled", termination_message="the end\n")
    assert end_of(died) == "Pod worker-pod-1 exited with 137 (OOMKilled): the end"


@pytest.mark.parametrize(
    ("fields", "by_itself"),
    [
        ({"exit_code": 1, "phase": "Failed"}, True),
        ({"exit_code": 137, "phase": "Failed", "exit_reason": "OOMKilled"}, True),
        ({"exit_code": 0, "phase": "Succeeded"}, False),
        ({"exit_code": 255, "phase": "Failed", "exit_reason": "Unknown"}, False),
        ({"exit_code": 137, "phase": "Failed", "exit_reason": "Error"}, False),
        ({"exit_code": 143, "phase": "Failed", "exit_reason": "Error"}, False),
        ({"exit_code": 1, "phase": "Failed", "reason": "Evicted"}, False),
        ({"exit_code": 1, "phase": "Failed", "deleting": True}, False),
        ({}, False),
    ],
)
def test_only_what_ended_by_itself_says_something_of_its_image(
    pod: Make, fields: dict[str, Any], by_itself: bool
) -> None:
    assert ended_by_itself(pod(**fields)) == by_itself
