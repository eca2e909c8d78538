"""A stream of jobs that goes every way of the operator, each checked against what it must become.

Every errand is one job from its submission to its end: its results must be all there, once, and
right, in a ledger that verifies. What an errand leaves to a sweep (keys of jobs that are gone) is
looked after at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import cloudpickle

import shoal
from shoal.errors import ApiError, BucketNotFound, Cancelled
from shoal.kube import CONFIGMAPS, DEPLOYMENTS, JOBS, MAPJOBS, PODS
from shoal.ledger_reader import LedgerReader

from .release import OWN_BUCKET, OWN_KEY, Release

cloudpickle.register_pickle_by_value(sys.modules[__name__])

QUIET_SECONDS = 90.0
"""An operator that lives on ends within so long all jobs that there are."""
LOOK_SECONDS = 0.3
LARGE = 50_000
PLAIN = shoal.Deployment()
KINDS = {"Job": JOBS, "MapJob": MAPJOBS, "Deployment": DEPLOYMENTS}
INLINE = {"function": {"name": "math.factorial"}, "items": {"inline": [0, 1, 2, 3, 4, 5]}}
ANSWERS = {n: math.factorial(n) for n in range(6)}


class Wrong(AssertionError):
    """Results that are lost, doubled or not what they must be."""


class Stream:
    """Runs errands, some at the same time, until it is told to stop."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._host = shoal.Kubernetes(kubernetes_namespace=release.served)
        self._alone = shoal.Kubernetes(kubernetes_namespace=release.served, reusable_pods=False)
        self._gone: list[str] = []
        self.done: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.errands: list[Callable[[], Awaitable[None]]] = [
            self.large_results,
            self.inline_map,
            self.retried,
            self.disrupted,
            self.cancelled,
            self.deleted,
            self.expired,
            self.own_deployment,
            self.own_bucket,
            self.own_pods,
            self.command,
            self.failing,
            self.suspended,
            self.unloadable,
        ]

    async def run(self, stop: asyncio.Event, *, at_once: int = 4) -> None:
        """Run one errand after the other, several at a time, until `stop`; then end them."""
        await self._served()
        turn = itertools.cycle(self.errands)
        under_way: dict[asyncio.Task[None], str] = {}
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            while len(under_way) < at_once:
                errand = next(turn)
                under_way[asyncio.create_task(self.errand(errand))] = errand.__name__
            waits = [*under_way, stopping]
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                del under_way[task]
        done, hung = await asyncio.wait(under_way, timeout=QUIET_SECONDS)
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)
        self.troubles += [f"{under_way[task]}: hung" for task in hung]

    async def errand(self, errand: Callable[[], Awaitable[None]]) -> None:
        """Run one errand and note how it went."""
        name = errand.__name__
        try:
            await errand()
        except Exception as error:
            now = datetime.now(UTC).strftime("%H:%M:%S")
            self.troubles.append(f"{now} {name}: {type(error).__name__}: {error}")
            print(f"  {self.troubles[-1][:500]}", flush=True)
        else:
            self.done[name] += 1

    async def settle(self) -> None:
        """Wait until nothing is left of the jobs that are gone."""
        storage = self._release.storage()

        def left() -> list[str]:
            keys = [info.key for info in storage.list(f"{self._release.cluster_id}/")]
            return [key for key in keys if any(job in key for job in self._gone)]

        try:
            async with asyncio.timeout(QUIET_SECONDS):
                while await asyncio.to_thread(left):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            self.troubles.append(
                f"keys of jobs that are gone stay: {await asyncio.to_thread(left)}"
            )

    # errands

    async def large_results(self) -> None:
        """A map whose results do not fit into reports, and which prints."""

        def work(n: int) -> bytes:
            print("task", n, flush=True)
            return bytes([n]) * LARGE

        handle = await shoal.submit_map(work, range(4), self._host, None, PLAIN, 2)
        await self._check(handle, {n: bytes([n]) * LARGE for n in range(4)})

    async def inline_map(self) -> None:
        """A map of plain JSON."""
        name = await self._apply("MapJob", INLINE)
        await self._ended("MapJob", name, "Complete", ANSWERS)

    async def retried(self) -> None:
        """A map whose tasks fail for a while."""

        def late(item: tuple[int, float]) -> int:
            if time.time() < item[1]:
                raise RuntimeError("not yet")
            return item[0]

        items = [(n, time.time() + 2.0) for n in range(3)]
        handle = await shoal.submit_map(late, items, self._host, None, PLAIN, 2, None, None, 12)
        await self._check(handle, {n: n for n in range(3)})

    async def disrupted(self) -> None:
        """A map that loses a worker in the middle."""

        def slow(n: int) -> int:
            time.sleep(0.2)
            return n

        handle = await shoal.submit_map(slow, range(10), self._host, None, PLAIN, 2)
        await self._until(handle, lambda status: (status.succeeded or 0) >= 2)
        found = await self._release.api.list(
            PODS, self._release.served, label_selector="app.kubernetes.io/managed-by=shoal"
        )
        alive = [p["metadata"] for p in found["items"] if p["status"].get("phase") == "Running"]
        if alive:
            victim = secrets.choice(alive)["name"]
            await self._release.api.delete(PODS, victim, self._release.served, grace_seconds=0)
        await self._check(handle, {n: n for n in range(10)})

    async def cancelled(self) -> None:
        """A map that is cancelled in the middle."""

        def slow(n: int) -> int:
            time.sleep(0.1)
            return n

        handle = await shoal.submit_map(slow, range(500), self._host, None, PLAIN, 2)
        await self._until(handle, lambda status: (status.succeeded or 0) >= 2)
        await handle.cancel()
        await self._check(handle, {n: n for n in range(500)}, phase="Cancelled")

    async def deleted(self) -> None:
        """A map that is deleted in the middle."""

        def slow(n: int) -> int:
            time.sleep(0.1)
            return n

        handle = await shoal.submit_map(slow, range(500), self._host, None, PLAIN, 2)
        status = await self._until(handle, lambda status: (status.succeeded or 0) >= 2)
        await handle.delete()
        self._gone.append(status.id)

    async def expired(self) -> None:
        """A function whose time to live ends."""
        spec = {"function": {"name": "math.gcd", "args": [12, 18]}, "ttlSecondsAfterFinished": 1}
        name = await self._apply("Job", spec)
        last: dict[str, Any] = {}
        while True:
            try:
                found = await self._release.api.get(JOBS, name, self._release.served)
            except ApiError as error:
                if error.status != 404:
                    raise
                break
            last = found.get("status") or last
            await asyncio.sleep(LOOK_SECONDS)
        if last.get("result", 6) != 6:
            raise Wrong(f"{name}: {last}")
        self._gone.append("u" + found["metadata"]["uid"].replace("-", ""))

    async def own_deployment(self) -> None:
        """A map on workers of a Deployment that comes after it and goes with it."""
        mark = secrets.token_hex(4)
        chosen = {"deployment": {"ref": f"own-{mark}"}}
        spec = {"function": {"name": "os.getenv"}, "items": {"inline": ["MARK"]}, **chosen}
        name = await self._apply("MapJob", spec)
        about = {
            "environmentVariables": [{"name": "MARK", "value": mark}],
            "minWorkers": 1,
            "idleSeconds": 1,
        }
        await self._apply("Deployment", about, f"own-{mark}")
        await self._ended("MapJob", name, "Complete", {0: mark})
        await self._release.api.delete(DEPLOYMENTS, f"own-{mark}", self._release.served)

    async def own_bucket(self) -> None:
        """A map whose bucket's key stands in a Secret of its namespace."""
        storage = {
            "bucket": OWN_BUCKET,
            "endpoint": self._release.endpoint,
            "secretName": OWN_KEY,
        }
        name = await self._apply("MapJob", INLINE | {"storage": storage})
        await self._ended("MapJob", name, "Complete", ANSWERS)

    async def own_pods(self) -> None:
        """A map with Pods of its own."""
        handle = await shoal.submit_map(lambda n: -n, range(3), self._alone, None, PLAIN, 1)
        await self._check(handle, {n: -n for n in range(3)})

    async def command(self) -> None:
        """A command with its exit code."""
        handle = await shoal.submit_command(["true"], self._host, None, PLAIN)
        done = await handle.result()
        if done.return_code != 0:
            raise Wrong(f"{handle.full_name}: {done}")

    async def failing(self) -> None:
        """A map of which one task fails for good."""

        def picky(n: int) -> int:
            if n == 1:
                raise ValueError(n)
            return n

        handle = await shoal.submit_map(picky, range(4), self._host, None, PLAIN, 2)
        expected = {0: 0, 1: "PYTHON_EXCEPTION", 2: 2, 3: 3}
        await self._check(handle, expected, phase="Failed")

    async def suspended(self) -> None:
        """A map that rests for a while."""
        spec = {"function": {"name": "math.sqrt"}, "items": {"inline": [0, 1, 4, 9]}}
        name = await self._apply("MapJob", spec | {"suspend": True})
        await self._until_raw("MapJob", name, lambda status: status.get("phase") == "Suspended")
        await self._release.api.patch(
            MAPJOBS, name, {"spec": {"suspend": False}}, self._release.served
        )
        await self._ended("MapJob", name, "Complete", {n: float(n) for n in range(4)})

    async def unloadable(self) -> None:
        """A map that can run nowhere."""
        spec = {"function": {"name": "no_such_module.f"}, "items": {"inline": [1, 2]}}
        name = await self._apply("MapJob", spec)
        status = await self._until_raw("MapJob", name, _finished)
        if status["phase"] != "Failed":
            raise Wrong(f"{name}: {status}")

    async def orphaned(self) -> None:
        """Keys of a job that is not there; they go when they are old enough."""
        job = secrets.token_hex(12)
        folder = f"{self._release.cluster_id}/{self._release.served}/jobs/{job}"
        storage = self._release.storage()
        await asyncio.to_thread(storage.put, f"{folder}/ledger/00000000", b"of nobody")
        self._gone.append(job)

    # what they share

    async def _served(self) -> None:
        """Wait until an operator has made the bucket and told clients what they must know."""
        while not await self._is_served():
            await asyncio.sleep(LOOK_SECONDS)

    async def _is_served(self) -> bool:
        told = await self._release.api.get(CONFIGMAPS, "shoal", self._release.served)
        if (told.get("data") or {}).get("instance") != self._release.instance:
            return False
        try:
            await asyncio.to_thread(self._release.storage().check)
        except BucketNotFound:
            return False
        return True

    async def _apply(self, kind: str, spec: dict[str, Any], name: str = "") -> str:
        name = name or f"e-{secrets.token_hex(5)}"
        body = {
            "apiVersion": "shoal.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        await self._release.api.create(KINDS[kind], body, self._release.served)
        return name

    async def _until(self, handle: shoal.JobHandle, holds: Callable[[Any], bool]) -> Any:
        while True:
            status = await handle.status()
            if holds(status):
                return status
            await asyncio.sleep(LOOK_SECONDS)

    async def _until_raw(
        self, kind: str, name: str, holds: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        while True:
            found = await self._release.api.get(KINDS[kind], name, self._release.served)
            status: dict[str, Any] = found.get("status") or {}
            if holds(status):
                return status
            await asyncio.sleep(LOOK_SECONDS)

    async def _check(
        self, handle: shoal.JobHandle, expected: dict[int, Any], *, phase: str = "Complete"
    ) -> None:
        """Follow a map to its end as a client does; then look at its ledger."""
        seen: Counter[int] = Counter()
        try:
            async for task in handle.results():
                seen[task.task_id] += 1
                value = task.result if task.state == "SUCCEEDED" else str(task.state)
                if value != expected[task.task_id]:
                    raise Wrong(f"{handle.full_name}: task {task.task_id} is {str(value)[:200]}")
        except Cancelled:
            if phase != "Cancelled":
                raise
        status = dict((await handle.status()).to_dict())
        self._check_end(handle.full_name, status, seen, expected, phase)
        await self._check_ledger(handle.full_name, status, seen)
        await handle.delete()
        self._gone.append(status["id"])

    async def _ended(self, kind: str, name: str, phase: str, expected: dict[int, Any]) -> None:
        """Wait for a map's end, as one who looks at it; then look at its ledger."""
        status = await self._until_raw(kind, name, _finished)
        seen = await self._check_ledger(name, status, None, expected)
        self._check_end(name, status, seen, expected, phase)

    def _check_end(
        self,
        name: str,
        status: dict[str, Any],
        seen: Counter[int],
        expected: dict[int, Any],
        phase: str,
    ) -> None:
        if status["phase"] != phase:
            raise Wrong(f"{name}: {status}")
        if max(seen.values(), default=1) > 1:
            raise Wrong(f"{name}: doubled: {seen}")
        if phase != "Cancelled" and seen.keys() != expected.keys():
            raise Wrong(f"{name}: lost: {expected.keys() - seen.keys()}")
        if (status.get("succeeded") or 0) + (status.get("failed") or 0) != len(seen):
            raise Wrong(f"{name}: {len(seen)} results, but {status}")

    async def _check_ledger(
        self,
        name: str,
        status: dict[str, Any],
        seen: Counter[int] | None,
        expected: dict[int, Any] | None = None,
    ) -> Counter[int]:
        """Read the whole ledger, which verifies it; compare with what a client saw."""
        told = status["storage"]
        storage = self._release.storage(told["bucket"])
        folder = f"{self._release.cluster_id}/{self._release.served}/jobs/{status['id']}"
        prefix = f"{told['prefix']}/{folder}" if told.get("prefix") else folder

        async def get(key: str) -> bytes:
            return await asyncio.to_thread(storage.get, key)

        found: Counter[int] = Counter()
        reader = LedgerReader(get, prefix)
        async for entry in reader.read(status["ledger"]["length"], status["ledger"]["digest"]):
            for record in entry.records:
                found[record.task] += 1
                if expected is not None and _json(record) != expected[record.task]:
                    raise Wrong(f"{name}: task {record.task} is {bytes(record.data)!r}")
        if seen is not None and found != seen:
            raise Wrong(f"{name}: the ledger has {found}, a client saw {seen}")
        return found


def _finished(status: dict[str, Any]) -> bool:
    return any(
        one["type"] == "Finished" and one["status"] == "True"
        for one in status.get("conditions") or ()
    )


def _json(record: Any) -> Any:
    return json.loads(bytes(record.data))
