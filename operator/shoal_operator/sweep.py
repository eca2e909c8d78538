"""The one slow sweep: what events may have missed, what has lived long enough, what nobody owns.

Each minute it compares the cache with live lists (and marks what differs), deletes finished jobs
whose time is over, renews the ConfigMaps, and now and then clears the bucket. It deletes keys only
under this cluster's own prefix, only in watched namespaces, and only for an id that no custom
resource of that namespace has at that moment. Inputs and code that nobody refers to may belong to a
submission under way, so they wait out a grace time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from shoal.errors import ApiError, StorageError
from shoal.kube import JOBS, MAPJOBS, PODS
from shoal.storage import ObjectInfo, S3Storage

from . import names
from .bucket import Bucket
from .buckets import BucketProblem
from .cache import CustomResource
from .context import Context
from .discovery import namespaces
from .reconcile import KINDS, Reconciler
from .resolve import JobPlace, Storage, default_storage, resolve
from .status import finished_at
from .statuswriting import API

logger = logging.getLogger(__name__)

GATHER_SECONDS = 2.0
"""Jobs that are deleted within so long are cleared away together."""
BATCH = 1000
"""Keys that one request deletes."""


class Sweeper:
    """Runs the sweep."""

    def __init__(
        self, context: Context, reconciler: Reconciler, swept: Callable[[int], None]
    ) -> None:
        """`swept(missed)` is told after each sweep how much the watch had not brought."""
        self._context = context
        self._reconciler = reconciler
        self._swept = swept
        self._bucket_due = 0.0
        self._gone: list[CustomResource] = []

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.once()
            except (ApiError, StorageError, BucketProblem, TimeoutError) as error:
                logger.warning("the sweep could not be completed: %s", error)
            except Exception:
                # The probe sees sweeps that keep failing; the jobs should not suffer meanwhile.
                logger.exception("the sweep broke")
            await asyncio.sleep(self._context.settings.sweep_seconds)

    async def once(self) -> None:
        """One sweep."""
        served = await namespaces(self._context.api, self._context.settings)
        served = [name for name in served if await self._reconciler.look(name)]
        missed = await self._compare()
        await self._expire()
        self._context.buckets.keep(self._reconciler.jobs.storages())
        self._swept(missed)
        due = time.monotonic() >= self._bucket_due
        if due and self._context.settings.default_bucket:
            self._bucket_due = time.monotonic() + self._context.settings.bucket_sweep_seconds
            await self._clear_bucket(served)

    async def _compare(self) -> int:
        """Bring the cache in line with live lists; count what the watch should have brought."""
        began = time.time()
        missed = 0
        for namespace in self._context.settings.watch_namespaces or (None,):
            for kind, resource in KINDS.items():
                listed = await self._context.api.list(resource, namespace)
                present = set()
                for body in listed["items"]:
                    live = CustomResource.of(kind, body)
                    if not self._context.claims.is_ours(live.namespace):
                        continue
                    present.add(live.uid)
                    known = self._context.cache.get(live.uid)
                    old = began - live.created > self._context.settings.sweep_seconds
                    if known is None:
                        missed += old
                    self._reconciler.resource_seen(kind, body, created=False)
                for known in list(self._context.cache.resources(kind)):
                    gone = known.uid not in present and known.created < began - 5
                    if gone and namespace in (None, known.namespace):
                        self._reconciler.resource_gone(kind, known.uid)
            await self._compare_pods(namespace)
        for kind, uid in [(r.kind, r.uid) for r in self._context.cache.resources(*KINDS)]:
            key = names.DEPLOYMENT if kind == names.DEPLOYMENT else names.JOB
            self._reconciler.queue.mark((key, uid))
        return missed

    async def _compare_pods(self, namespace: str | None) -> None:
        """Bring the Pods of the cache in line with those that live."""
        before = {pod.uid for pod in self._context.cache.all_pods()}
        selector = names.selector(self._context.settings.instance)
        listed = await self._context.api.list(PODS, namespace, label_selector=selector)
        present = set()
        for body in listed["items"]:
            uid = body["metadata"]["uid"]
            present.add(uid)
            if uid in before and self._context.cache.pod(uid) is None:
                continue  # it went while we asked
            self._reconciler.pod_seen(body)
        for uid in before:  # what was made while we asked may be missing in the answer
            known = self._context.cache.pod(uid)
            if known is not None and uid not in present and namespace in (None, known.namespace):
                logger.info("Pod %s of %s is gone, unseen", known.name, known.namespace)
                self._reconciler.pod_gone(uid)

    # jobs whose time is over

    async def _expire(self) -> None:
        now = time.time()
        self._reconciler.environments.look(now)
        for job in self._context.cache.resources(names.JOB, names.MAP_JOB):
            ended = finished_at(job)
            ttl = job.spec.get("ttlSecondsAfterFinished")
            used = self._reconciler.environments.last_used(job)
            if ended and now >= max(ended, used) + float(86400 if ttl is None else ttl):
                logger.info("%s in %s: its time is over", job.full_name, job.namespace)
                try:
                    await self._context.api.delete(
                        API[job.kind], job.name, job.namespace, uid=job.uid
                    )
                except ApiError as error:
                    if error.status != 409:
                        raise

    async def job_gone(self, job: CustomResource) -> None:
        """A job was deleted: its keys go too, a moment later and together with those of others."""
        self._gone.append(job)
        if len(self._gone) > 1:
            return  # who came first collects them all
        await asyncio.sleep(GATHER_SECONDS)
        gone, self._gone = self._gone, []
        for namespace in {job.namespace for job in gone}:
            # A live look, not the cache: keys are deleted only of jobs that are really gone.
            ids = await self._ids(namespace)
            for job in gone:
                if job.namespace == namespace and job.job_id not in ids:
                    await self._delete_keys(job)

    async def _delete_keys(self, job: CustomResource) -> None:
        storage = storage_of(job, self._context)
        if storage is None:
            return
        try:
            bucket = await self._context.buckets.open(storage)
            cluster = self._context.settings.cluster_id
            place = JobPlace.of(storage, cluster, job.namespace, job.job_id)
            await _clear(bucket, f"{place.job}/")
        except (BucketProblem, StorageError) as error:
            logger.warning("keys of %s stay until the next sweep: %s", job.full_name, error)

    async def _ids(self, namespace: str) -> set[str]:
        """Ids of all jobs that a namespace has now, asked of the API server itself."""
        found = set()
        for kind, resource in ((names.JOB, JOBS), (names.MAP_JOB, MAPJOBS)):
            listed = await self._context.api.list(resource, namespace)
            found |= {CustomResource.of(kind, body).job_id for body in listed["items"]}
        return found

    # the default bucket

    async def _clear_bucket(self, served: Iterable[str]) -> None:
        storage = default_storage(self._context.settings)
        bucket = await self._context.buckets.open(storage)
        for namespace in served:
            folder = storage.folder(self._context.settings.cluster_id, namespace)
            await self._clear_jobs(bucket, f"{folder}jobs/", namespace)
            await self._clear_code(bucket, f"{folder}code/", namespace)

    async def _clear_jobs(self, bucket: Bucket, folder: str, namespace: str) -> None:
        found = await asyncio.to_thread(lambda: list(_newest(bucket.storage, folder)))
        if not found:
            return
        # Asked after the keys were listed: a job that is submitted meanwhile is in the list, or its
        # keys are younger than the grace time.
        ids = await self._ids(namespace)
        for job_id, (age, had_ledger) in found:
            settings = self._context.settings
            grace = settings.orphan_seconds if had_ledger else settings.grace_seconds
            if job_id in ids or age < grace:
                continue
            logger.info("bucket: jobs/%s of %s belongs to nobody: deleted", job_id, namespace)
            await _clear(bucket, f"{folder}{job_id}/")

    async def _clear_code(self, bucket: Bucket, folder: str, namespace: str) -> None:
        used = {
            part["sha256"]
            for resource in self._context.cache.resources(*KINDS)
            if resource.namespace == namespace
            for part in (_where(resource).get("code") or {}).get("parts") or ()
        }
        grace = self._context.settings.grace_seconds
        infos = await asyncio.to_thread(lambda: list(bucket.storage.list(folder)))
        old = [i.key for i in infos if i.age_seconds > grace and i.key[len(folder) :] not in used]
        for start in range(0, len(old), BATCH):
            await asyncio.to_thread(bucket.storage.delete, *old[start : start + BATCH])


def _where(resource: CustomResource) -> Mapping[str, Any]:
    """The fields of a Deployment, or of the one inside a job."""
    where: Mapping[str, Any] = resource.spec.get("deployment") or resource.spec
    return where


def _newest(storage: S3Storage, folder: str) -> Iterable[tuple[str, tuple[float, bool]]]:
    """Per job id the age of its youngest key, and whether an operator ever wrote a ledger."""
    now_id, age, ledger = "", 0.0, False
    for info in storage.list(folder):
        job_id, _, rest = info.key[len(folder) :].partition("/")
        if job_id != now_id:
            if now_id:
                yield now_id, (age, ledger)
            now_id, age, ledger = job_id, info.age_seconds, False
        age = min(age, info.age_seconds)
        ledger = ledger or rest.startswith("ledger/")
    if now_id:
        yield now_id, (age, ledger)


async def _clear(bucket: Bucket, prefix: str) -> None:
    """Remove what starts with `prefix`: one by one and guarded, or many with one request."""
    if bucket.guarded:
        await bucket.clear(prefix)
    else:
        await asyncio.to_thread(_delete_all, bucket.storage, prefix)


def _delete_all(storage: S3Storage, prefix: str) -> None:
    objects: Iterable[ObjectInfo] = storage.list(prefix)
    keys = iter(objects)
    while batch := [info.key for info in islice(keys, BATCH)]:
        storage.delete(*batch)


def storage_of(job: CustomResource, context: Context) -> Storage | None:
    """The storage of a job that is gone: as its status says, or as its spec tells.

    The Secret's name stands in no status: it is the spec's, or that of the Deployment if there is
    one still. What was in the chart's bucket is not looked for in one that took its place.
    """

    def find(name: str) -> CustomResource | None:
        return context.cache.named(names.DEPLOYMENT, job.namespace, name)

    told, status = resolve(job, find, context.settings).storage, job.status.get("storage")
    if not status:
        return told
    for known in (told, default_storage(context.settings)):
        if known is not None and known.status() == status:
            return known
    return Storage(
        bucket=status.get("bucket") or "",
        endpoint=status.get("endpoint") or "",
        endpoint_in_cluster=status.get("endpointInCluster") or "",
        region=status.get("region") or "",
        prefix=status.get("prefix") or "",
        secret=told.secret if told is not None else "",
        namespace=job.namespace,
    )
