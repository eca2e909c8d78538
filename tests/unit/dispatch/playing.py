"""Jobs, workers and time for tests of the dispatcher: workers speak as the agent does."""

from __future__ import annotations

import itertools
from typing import Any

from memory_store import MemoryStore

from shoal import ledger
from shoal.dispatch import Dispatcher, JobSpec, WorkerIdentity
from shoal.worker import ranges
from shoal.worker.records import Record

SECRET = b"k" * 32
POOL = "pool"


def spec(total: int = 4, **more: Any) -> JobSpec:
    known: dict[str, Any] = {
        "id": "j" * 24,
        "uid": "uid",
        "name": "mapjobs.shoal.dev/x",
        "context": "cluster:uid",
        "prefix": "c/n/jobs/j",
        "kind": "map",
        "total": total,
        "parallelism": 2,
        "backoff": 0.0,
    }
    return JobSpec(**{**known, **more})


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A worker as far as the dispatcher sees it; it may lose answers, or die."""

    def __init__(self, dispatcher: Dispatcher, uid: str, pool: str = POOL) -> None:
        self.dispatcher = dispatcher
        self.identity = WorkerIdentity(
            pod_uid=uid, pod=f"pod-{uid}", namespace="n", node="node-1", pool=pool
        )
        self.held: dict[str, dict[str, Any]] = {}
        self.returned: list[Any] = []

    async def poll(self, *, lose: bool = False, wait: float = 0.0) -> dict[str, Any]:
        message = {"held": list(self.held.values()), "knows": [], "wait": wait}
        returned, self.returned = self.returned, []
        answer = await self.dispatcher.poll(self.identity, {**message, "returned": returned})
        for job in answer.get("gone", ()):
            self.held = {name: claim for name, claim in self.held.items() if claim["job"] != job}
        if not lose:
            for claim in answer["claims"]:
                self.held[claim["id"]] = dict(claim)
        return answer

    def tasks(self) -> list[int]:
        """Return the tasks in hand."""
        held = self.held.values()
        return [task for claim in held for task in ranges.each(ranges.parse(claim["tasks"]))]

    def give_back(self) -> None:
        """Let go of all tasks but the first of each claim, and say so with the next poll."""
        for claim in self.held.values():
            first, *others = ranges.each(ranges.parse(claim["tasks"]))
            claim["tasks"] = [(first, first + 1)]
            self.returned.append([claim["id"], ranges.of(others)])

    async def report(
        self, *states: str, most: int | None = None, memory: int = 0, **more: Any
    ) -> dict[str, Any]:
        """Report what is held, each task in the next of `states` (the last one repeats)."""
        claim = next(iter(self.held.values()))
        tasks = list(ranges.each(ranges.parse(claim["tasks"])))[:most]
        turn = itertools.chain(
            states or ("SUCCEEDED",), itertools.repeat((states or ("SUCCEEDED",))[-1])
        )
        outcomes = [
            Record(task, claim["attempt"], state, "pickle", b"r%d" % task, memory=memory)
            for task, state in zip(tasks, turn, strict=False)
        ]
        group = (claim["job"], claim["id"], outcomes, 0.001 * len(outcomes))
        answer = await self.dispatcher.report(self.identity, more, [group])
        left = list(ranges.each(ranges.parse(claim["tasks"])))[len(outcomes) :]
        if left:
            claim["tasks"] = ranges.of(left)
        else:
            del self.held[claim["id"]]
        return answer

    async def work(self) -> None:
        """Poll and report until there is nothing to do."""
        while (await self.poll())["claims"]:
            await self.report()


def make(store: MemoryStore | None = None) -> tuple[Dispatcher, MemoryStore, Clock]:
    clock = Clock()
    return (
        Dispatcher(secret=SECRET, on_change=lambda job: None, now=clock),
        store or MemoryStore(),
        clock,
    )


def results(store: MemoryStore) -> dict[int, tuple[str, bytes]]:
    """Return each task's outcome from the bucket; fail if one stands there twice."""
    found: dict[int, tuple[str, bytes]] = {}
    for key in sorted(key for key in store.objects if "/ledger/" in key):
        for record in ledger.open_entry(store.objects[key]).records:
            assert record.task not in found, f"task {record.task} stands in the ledger twice"
            found[record.task] = (record.state, bytes(record.data))
    return found


def right(total: int) -> dict[int, tuple[str, bytes]]:
    return {task: ("SUCCEEDED", b"r%d" % task) for task in range(total)}
