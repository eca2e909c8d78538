"""Joins the watch, the dispatcher and the keepers: who changed, and what must be looked at then.

Everything that learns something calls a method here, which updates the cache and marks the parents
that it concerns; the queue does the rest. Nothing here waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from shoal.dispatch import WorkerIdentity
from shoal.kube import DEPLOYMENTS, JOBS, MAPJOBS, PODS

from . import names
from .cache import CustomResource
from .context import Context
from .deployments import DeploymentKeeper
from .discovery import namespaces
from .endings import ending
from .environments import EnvironmentKeeper
from .jobs import JobKeeper
from .observe import PodFact, pod_fact
from .poolkeeping import PoolKeeper
from .pools import Pool, pool_key
from .queueing import DirtyQueue
from .reasons import QUIET, Reason
from .runs import Run
from .statuswriting import StatusWriter

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Kind (jobs of both kinds are "Job") and uid."""
KINDS = {names.JOB: JOBS, names.MAP_JOB: MAPJOBS, names.DEPLOYMENT: DEPLOYMENTS}
EVENTS_WAITING = 200
"""Events that are being posted at the most; good news beyond that is not told."""


class Reconciler:
    """The operator's middle: cache, queue and keepers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.queue: DirtyQueue[Key] = DirtyQueue(self._reconcile)
        self.writer = StatusWriter(context.api, context.cache)
        self.pools = PoolKeeper(
            context, on_news=lambda pool: self._mark_jobs(pool.namespace, pool.hash)
        )
        self.environments = EnvironmentKeeper(context, runs_of=self._runs_of)
        self.jobs = JobKeeper(
            context,
            self.pools,
            self.writer,
            on_pool=lambda kind, uid: self.queue.mark((kind, uid)),
            on_deployment=self._mark_deployment,
            on_again=lambda uid: self.queue.mark((names.JOB, uid)),
            tell=self._tell,
        )
        self.deployments = DeploymentKeeper(
            context,
            self.pools,
            self.writer,
            self.environments,
            pools_in_use=self._pools_in_use,
            runs_of=self._runs_of,
            on_environment=self._mark_waiting,
        )
        self._background: set[asyncio.Task[None]] = set()
        self._met: set[str] = set()
        self.on_job_gone: Callable[[CustomResource], Coroutine[Any, Any, None]] | None = None

    # what is learned

    async def load(self) -> None:
        """Fill the cache before anything runs, so that no job is planned without its Pods."""
        selector = names.selector(self._context.settings.instance)
        for name in await namespaces(self._context.api, self._context.settings):
            await self._context.claims.look(name)
        for namespace in self._namespaces():
            for kind, resource in KINDS.items():
                listed = await self._context.api.list(resource, namespace)
                for body in listed["items"]:
                    self.resource_seen(kind, body, created=False)
            found = await self._context.api.list(PODS, namespace, label_selector=selector)
            for body in found["items"]:
                self.pod_seen(body)
        self._context.cache.complete = True

    def resource_seen(self, kind: str, body: Mapping[str, Any], *, created: bool) -> None:
        """A custom resource is there or changed; `created` if this is its beginning."""
        resource = CustomResource.of(kind, body)
        claims = self._context.claims
        if not claims.is_ours(resource.namespace):
            return
        unknown = self._context.cache.get(resource.uid) is None
        if not self._context.cache.put(resource):
            return
        if kind == names.DEPLOYMENT:
            self.queue.mark((kind, resource.uid))
            if unknown:
                self._mark_waiting(resource.namespace, resource.name)
            return
        if not resource.finished:
            fresh = created and unknown and not resource.status
            self.jobs.expect(resource.uid, fresh=fresh)
            if created and not claims.is_fresh(resource.namespace):
                self.spawn(self._look_beside(resource.namespace))
        self._mark_builds(resource)
        self.queue.mark((names.JOB, resource.uid))

    def resource_gone(self, kind: str, uid: str) -> CustomResource | None:
        """A custom resource was deleted."""
        known = self._context.cache.drop(uid)
        key = (_queue_kind(kind), uid)
        self.queue.forget(key)
        self.queue.mark(key)
        if known is None:
            return None
        self._mark_builds(known)
        if kind == names.DEPLOYMENT:
            self._mark_waiting(known.namespace, known.name)
        elif self.on_job_gone is not None:
            self.spawn(self.on_job_gone(known))
        return known

    async def look(self, namespace: str) -> bool:
        """See whether a namespace is ours; let go of its jobs if it is not any more."""
        ours = await self._context.claims.look(namespace)
        if not ours:
            for resource in self._context.cache.resources(*KINDS):
                if resource.namespace == namespace:
                    self._context.cache.drop(resource.uid)
                    self.queue.mark((_queue_kind(resource.kind), resource.uid))
        return ours

    async def _look_beside(self, namespace: str) -> None:
        await self.look(namespace)

    def pod_seen(self, body: Mapping[str, Any]) -> None:
        """A Pod is there or changed."""
        fact = pod_fact(body)
        before = self._context.cache.pod(fact.uid)
        if before is not None and (before.deleting > fact.deleting or before.ended > fact.ended):
            return  # older than what we know; neither of them is ever taken back
        self._context.cache.put_pod(fact)
        if not fact.alive and (before is None or before.alive):
            self._gone(fact, fact)
        if before != fact:
            self._mark_owner(fact)

    def pod_gone(self, uid: str) -> None:
        """A Pod was deleted."""
        fact = self._context.cache.drop_pod(uid)
        self.pools.entered(uid)
        self._met.discard(uid)
        self._context.identity.forget(uid)
        if fact is None:
            return
        if fact.alive:
            self._gone(fact, None)
        if not fact.ended or fact.deleting:
            self.jobs.lost_pod(fact.owner_uid, uid)
        self._mark_owner(fact)

    async def authenticate(self, headers: Mapping[str, str]) -> WorkerIdentity:
        """Say who a worker is; of one that is new its Deployment is told."""
        identity = await self._context.identity.authenticate(headers)
        if identity.pod_uid not in self._met:
            self._met.add(identity.pod_uid)
            fact = self._context.cache.pod(identity.pod_uid)
            if fact is not None:  # the dispatcher counts it once it has its request
                asyncio.get_running_loop().call_later(0.05, self._mark_owner, fact)
        return identity

    def job_changed(self, uid: str) -> None:
        """The dispatcher knows something new of a job."""
        self.queue.mark((names.JOB, uid))

    # doing

    async def _reconcile(self, key: Key) -> float:
        kind, uid = key
        known = self._context.cache.get(uid)
        if known is not None and _queue_kind(known.kind) != kind:
            # A Pod came before its owner, so its owner's kind was a guess.
            self.queue.mark((_queue_kind(known.kind), uid))
            return 0.0
        if kind == names.DEPLOYMENT:
            return await self.deployments.reconcile(uid)
        self.writer.active = len(self.jobs.runs)
        return await self.jobs.reconcile(uid)

    async def close(self) -> None:
        """Stop."""
        await self.queue.close()
        for task in list(self._background):
            task.cancel()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside; its failure is logged."""
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("beside the queue: %r", task.exception())

    @property
    def context(self) -> Context:
        """What it works with."""
        return self._context

    def _tell(self, resource: CustomResource, reason: Reason, message: str) -> None:
        if reason in QUIET and len(self._background) > EVENTS_WAITING:
            return
        self.spawn(self._context.recorder.post(resource, reason, message))

    # who is concerned

    def _gone(self, fact: PodFact, last: PodFact | None) -> None:
        end = ending(last)
        self._context.dispatcher.worker_gone(
            fact.uid, end.why, running=end.running, unknown=end.unknown, cause=end.cause
        )

    def _mark_owner(self, fact: PodFact) -> None:
        owner = self._context.cache.get(fact.owner_uid)
        kind = (
            names.DEPLOYMENT if owner is not None and owner.kind == names.DEPLOYMENT else names.JOB
        )
        self.queue.mark((kind, fact.owner_uid))
        if (
            kind == names.DEPLOYMENT
            and self._context.dispatcher.pool(pool_key(fact.namespace, fact.pool)).wanted
        ):
            self._mark_jobs(fact.namespace, fact.pool)

    def _mark_jobs(self, namespace: str, pool_hash: str) -> None:
        """Mark the jobs of a pool."""
        for uid, run in list(self.jobs.runs.items()):
            pools = run.resolution.pools if run.resolution else ()
            if any(pool.hash == pool_hash and pool.namespace == namespace for pool in pools):
                self.queue.mark((names.JOB, uid))

    def _mark_waiting(self, namespace: str, deployment: str) -> None:
        for uid, run in list(self.jobs.runs.items()):
            resolution, job = run.resolution, self._context.cache.get(uid)
            if resolution is None or job is None or job.namespace != namespace:
                continue
            if resolution.deployment == deployment:
                run.resolved_for = ()
                self.queue.mark((names.JOB, uid))

    def _mark_deployment(self, namespace: str, name: str) -> None:
        deployment = self._context.cache.named(names.DEPLOYMENT, namespace, name)
        if deployment is not None:
            self.queue.mark((names.DEPLOYMENT, deployment.uid))

    def _mark_builds(self, job: CustomResource) -> None:
        """Mark the Deployments whose environment a Job builds."""
        if names.ENVIRONMENT in job.labels:
            for deployment in self.environments.of_build(job):
                self.queue.mark((names.DEPLOYMENT, deployment.uid))

    def _runs_of(self, deployment: CustomResource) -> list[Run]:
        """The unfinished jobs that use a Deployment."""
        found = []
        for uid, run in self.jobs.runs.items():
            job, resolution = self._context.cache.get(uid), run.resolution
            if job is None or resolution is None or job.namespace != deployment.namespace:
                continue
            if resolution.deployment == deployment.name:
                found.append(run)
        return found

    async def place_environment(self, worker: WorkerIdentity, name: str) -> dict[str, Any]:
        """Tell a worker that begins where its environment is; it is heard of again later."""
        self.pools.enters(worker.pod_uid)
        return await self.environments.place(worker, name)

    def _pools_in_use(self, deployment_uid: str) -> Iterator[Pool]:
        for uid, run in self.jobs.runs.items():
            resolution = run.resolution
            pool = resolution.pool if resolution else None
            if resolution is None or pool is None or pool.owner_uid != deployment_uid:
                continue
            view = self._context.dispatcher.job(uid) if len(resolution.pools) > 1 else None
            yield from resolution.in_use(view.sizes if view else ())

    def _namespaces(self) -> tuple[str | None, ...]:
        return self._context.settings.watch_namespaces or (None,)


def _queue_kind(kind: str) -> str:
    return names.DEPLOYMENT if kind == names.DEPLOYMENT else names.JOB
