"""Worker Pods are deleted: their tasks are done by others, on the budget of disruptions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chaos import Chaos
from gates import Gate
from ledgers import check_all_once, read
from namespaces import Place, condition

import shoal

HERE = shoal.Deployment()
RESULTS = [item + 1 for item in range(60)]


async def test_all_workers_are_deleted_twice(user: Place, chaos: Chaos, gate: Gate) -> None:
    wait = gate.wait

    def increment(item: int) -> int:
        if item >= 57:
            wait()
        return item + 1

    host = user.host()
    handle = await shoal.submit_map(increment, range(60), host, None, HERE, 3, name="deleted")
    for grace_seconds in (0, 10):
        await user.until("MapJob", "deleted", lambda s: s.get("succeeded", 0) == 57)
        pods = await user.until_pods(lambda pods: sum(map(is_running, pods)) == 3)
        for pod in pods:
            await chaos.delete_pod(pod, grace_seconds=grace_seconds)
        gone = {pod["metadata"]["uid"] for pod in pods}
        await user.until_pods(
            lambda pods, gone=gone: sum(map(is_running, pods)) == 3 and not gone & uids(pods)
        )
    await gate.open()
    assert await handle.result() == RESULTS
    book = await check_all_once(user, "deleted", RESULTS)
    charged = Counter((charge.index, charge.kind) for charge in book.charges)
    assert set(charged) <= {(index, "disruption") for index in (57, 58, 59)}
    # what a Pod that was deleted had in hand may meet one that is deleted next; each costs one
    assert sum(charged.values()) <= 6


async def test_a_task_that_loses_its_worker_too_often_fails_and_others_do_not(
    user: Place, chaos: Chaos
) -> None:
    spec: dict[str, Any] = {
        "function": {"name": "time.sleep"},
        "items": {"inline": [0, 0, 0, 600]},
        "parallelism": 1,
        "maxDisruptions": 1,
    }
    await user.apply("MapJob", "unlucky", spec)
    for _ in range(2):
        await user.until("MapJob", "unlucky", lambda s: s.get("succeeded", 0) == 3)
        (pod,) = await user.until_pods(lambda pods: len(pods) == 1 and is_running(pods[0]))
        await user.until("MapJob", "unlucky", lambda s: s["workers"]["ready"] == 1)
        await chaos.delete_pod(pod)
        gone = pod["metadata"]["uid"]
        await user.until_pods(lambda pods, gone=gone: gone not in uids(pods))
    status = await user.end("MapJob", "unlucky")
    assert (status["phase"], status["succeeded"], status["failed"]) == ("Failed", 3, 1)
    assert condition(status, "Failed")["reason"] == "TaskFailed"
    book = await read(user, status)
    assert {record.task: record.state for record in book.records}[3] == "WORKER_LOST"


async def test_children_are_killed_and_their_tasks_are_tried_again(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    wait = gate.wait

    def increment(item: int) -> int:
        if item >= 58:
            wait()
        return item + 1

    handle = await shoal.submit_map(
        increment, range(60), user.host(), None, HERE, 2, max_num_task_attempts=3, name="orphans"
    )
    await user.until("MapJob", "orphans", lambda s: s.get("succeeded", 0) == 58)
    pods = await user.until_pods(lambda pods: sum(map(is_running, pods)) == 2)
    for pod in pods:
        await chaos.kill_children(pod)
    await gate.open()
    assert await handle.result() == RESULTS
    book = await check_all_once(user, "orphans", RESULTS)
    assert {charge.kind for charge in book.charges} == {"attempt"}
    assert {charge.index for charge in book.charges} <= {58, 59}
    assert uids(await user.pods()) == uids(pods)


def is_running(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")


def uids(pods: list[Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}
