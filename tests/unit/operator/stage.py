"""An operator at work in memory: its queue runs, its bucket is a dict, its workers are played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from memory_store import MemoryStore
from parts import Api, Body, operator, pod_body, resource_body
from playing import Worker

from shoal.dispatch import JobView
from shoal.errors import ApiError
from shoal.kube import Resource
from shoal_operator.settings import Settings

UID = "job-uid"


class Quota(Api):
    """An API server that refuses Pods, by what `refuse` says of one."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: Callable[[Body], str | None] = lambda body: None
        self.made = datetime(2026, 1, 1, tzinfo=UTC)

    async def create(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        words = self.refuse(body) if resource.plural == "pods" else None
        if words:
            raise ApiError(403, "Forbidden", words)
        self.made += timedelta(seconds=1)
        meta = {"creationTimestamp": self.made.isoformat(), **body["metadata"]}
        body = {**body, "metadata": meta}
        return await super().create(resource, body, namespace)


class Stage:
    """One operator; several on one API server play a restart."""

    def __init__(self, settings: Settings, api: Quota | None = None) -> None:
        self.api = api or Quota()
        self.store = MemoryStore()
        self.context, self.reconciler, self.dispatcher = operator(self.api, settings)
        self.dispatcher.changed = self.reconciler.job_changed

        async def opened(storage: object) -> Any:
            return self.store

        self.context.buckets.open = opened  # type: ignore[method-assign]
        self.reconciler.queue._now = lambda: time.time()  # so that `later` moves it, too
        self.reconciler.queue.open()

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.dispatcher.stop()
        await self.reconciler.close()

    def apply(self, kind: str = "Job", **spec: Any) -> None:
        """Create the job, or change its spec."""
        plural = f"{kind.lower()}s"
        known = self.api.objects.get((plural, "default", "x"))
        body = known or resource_body(kind, "x", UID)
        generation = body["metadata"]["generation"] + (known is not None)
        changed = {**body, "spec": spec, "metadata": {**body["metadata"], "generation": generation}}
        self.reconciler.resource_seen(kind, self.api.add(plural, changed), created=known is None)

    def deployment(self, **spec: Any) -> None:
        """Create the Deployment `pool`."""
        body = self.api.add("deployments", resource_body("Deployment", "pool", "d", spec=spec))
        self.reconciler.resource_seen("Deployment", body, created=True)

    def status(self) -> Body:
        (job,) = [b for b in self.api.objects.values() if b["metadata"]["uid"] == UID]
        return dict(job.get("status") or {})

    def condition(self, type_: str) -> tuple[str, str]:
        """Status and reason of a condition; empty if it is not there."""
        found = [c for c in self.status().get("conditions", ()) if c["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def view(self) -> JobView:
        found = self.dispatcher.job(UID)
        assert found is not None
        return found

    def pods(self, memory: str = "") -> list[Body]:
        """The Pods that there are, or those that ask for so much memory."""
        found = [body for (plural, _, _), body in self.api.objects.items() if plural == "pods"]
        return [pod for pod in found if memory in ("", memory_of(pod))]

    def pods_of(self, kind: str) -> list[Body]:
        """The Pods that something of that kind owns."""
        return [p for p in self.pods() if p["metadata"]["ownerReferences"][0]["kind"] == kind]

    async def pod(self, memory: str = "") -> Body:
        """The one Pod of that size, when it is there."""
        await self.until(lambda: len(self.pods(memory)) == 1)
        return self.pods(memory)[0]

    def worker(self, pod: Body) -> Worker:
        """A worker in the Pod, which runs now."""
        meta = pod["metadata"]
        pool = meta["labels"]["shoal.dev/pool"]
        owner = meta["ownerReferences"][0]["uid"]
        running = pod_body(meta["uid"], owner, pool)["status"]
        self.sees(pod, **running)
        return Worker(self.dispatcher, meta["uid"], f"default/{pool}")

    def sees(self, pod: Body, **status: Any) -> None:
        """The watch brings a Pod with another status."""
        self.reconciler.pod_seen(self.api.add("pods", {**pod, "status": status}))

    def later(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        """Let the clock show so much more, and timers ring."""
        before, queue = time.time, self.reconciler.queue
        monkeypatch.setattr(time, "time", lambda: before() + seconds)
        for key in list(queue._timers):
            queue.forget(key)
            queue.mark(key)

    async def until(self, holds: Callable[[], object]) -> None:
        """Let the operator work until something holds."""
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.001)

    async def rest(self) -> None:
        """Let the operator work until it has nothing to do."""
        quiet = 0
        while quiet < 50:
            await asyncio.sleep(0)
            quiet = 0 if self.reconciler.queue.depth else quiet + 1


def memory_of(pod: Body) -> str:
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["memory"])


__all__ = ["UID", "Stage", "memory_of"]
