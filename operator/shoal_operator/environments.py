"""Environments: packages that a Deployment names, built once and unpacked by each of its workers.

A build is a Job of the operator's own, named by the hash of what is built, so that it is made once
however many ask. Its result is the archive, which lies among that Job's keys: it stays as long as
the Job does, and that is as long as a Deployment wants it.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shoal.dispatch import NotAttachedYet, WorkerIdentity
from shoal.errors import ApiError
from shoal.kube import JOBS

from . import names
from .buckets import BucketProblem
from .cache import CustomResource
from .context import Context
from .jobbucket import JobBucket
from .pools import base_image, build_name
from .resolve import JobPlace, storage_of_spec
from .settings import Settings
from .status import finished_at

logger = logging.getLogger(__name__)

BUILDER = "_shoal_worker.building.build"


@dataclass(frozen=True, slots=True)
class State:
    """How a Deployment's environment stands; `archive` is the build's result once it is ready."""

    phase: Literal["Building", "Ready", "Failed"]
    job: str
    message: str
    archive: Mapping[str, Any] | None = None
    failed_at: str = ""

    def status(self) -> dict[str, Any]:
        """As it stands in the Deployment's status."""
        found = {"phase": self.phase, "job": self.job, "message": self.message}
        if self.failed_at:
            found["failedAt"] = self.failed_at
        archive = self.archive or {}
        return found | {key: archive[key] for key in ("sha256", "size", "python") if key in archive}


def build_job(deployment: CustomResource, settings: Settings) -> dict[str, Any]:
    """The Job that builds a Deployment's environment."""
    spec, wanted = deployment.spec, deployment.spec["environment"]
    where = {
        "image": base_image(spec, settings),
        "environmentVariables": [
            {"name": name, "value": value} for name, value in settings.build_variables.items()
        ],
    }
    for name in ("interpreter", "imagePullPolicy", "imagePullSecrets", "serviceAccountName"):
        if spec.get(name):
            where[name] = spec[name]
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.JOB,
        "metadata": {
            "name": build_name(spec, settings),
            "labels": {**names.ours(settings.instance), names.ENVIRONMENT: "true"},
        },
        "spec": {
            "function": {
                "name": BUILDER,
                "args": [list(wanted["requirements"]), platform.machine()],
            },
            "deployment": where,
            "resources": {"memory": settings.build_memory},
            "isolation": "job",
            "activeDeadlineSeconds": int(settings.build_seconds),
            **({"storage": spec["storage"]} if spec.get("storage") else {}),
        },
    }


class EnvironmentKeeper:
    """Has environments built, and tells workers where they are."""

    def __init__(
        self,
        context: Context,
        *,
        asked: Callable[[CustomResource], float],
        deployment_of: Callable[[str], str],
    ) -> None:
        """`asked(deployment)` says when the last job began to wait for it, 0 where none waits;
        `deployment_of(uid)` is the name of the Deployment that a job uses."""
        self._context = context
        self._asked = asked
        self._deployment_of = deployment_of

    async def keep(self, deployment: CustomResource) -> State | None:
        """Have a Deployment's environment built if it is not; None where it wants none."""
        name = build_name(deployment.spec, self._context.settings)
        if not name:
            return None
        job = self._context.cache.named(names.JOB, deployment.namespace, name)
        if job is None:
            await self._begin(deployment)
        elif job.finished and not job.deleting:
            if (archive := _archive(job)) is not None:
                return State("Ready", name, f"built by {job.full_name}", archive)
            if max(self._asked(deployment), deployment.created) <= finished_at(job):
                ended = str(job.status.get("completionTime") or "")
                return State("Failed", name, _why(job), failed_at=ended)
            await self._again(job)
        words = f"{names.full_name(names.JOB, name)} installs its packages"
        return State("Building", name, words)

    def is_wanted(self, job: CustomResource) -> bool:
        """Whether a finished Job holds an environment that some Deployment uses."""
        if names.ENVIRONMENT not in job.labels or not job.says("Complete"):
            return False
        return any(True for _ in self.of_build(job))

    def of_build(self, job: CustomResource) -> list[CustomResource]:
        """The Deployments whose environment a Job builds."""
        return [
            deployment
            for deployment in self._context.cache.resources(names.DEPLOYMENT)
            if deployment.namespace == job.namespace
            and build_name(deployment.spec, self._context.settings) == job.name
        ]

    async def place(self, worker: WorkerIdentity) -> dict[str, str]:
        """Tell a worker where its environment is, ``{"url", "sha256"}``.

        Raises:
            NotAttachedYet: it is not there, or the bucket is away; it may come.
        """
        cache, settings = self._context.cache, self._context.settings
        pod = cache.pod(worker.pod_uid)
        owner = cache.get(pod.owner_uid) if pod is not None else None
        if owner is not None and owner.kind != names.DEPLOYMENT:
            name = self._deployment_of(owner.uid)
            owner = cache.named(names.DEPLOYMENT, owner.namespace, name)
        build = build_name(owner.spec, settings) if owner is not None else ""
        job = cache.named(names.JOB, owner.namespace, build) if owner is not None else None
        storage = storage_of_spec(job.spec.get("storage"), job, settings) if job else None
        archive = _archive(job) if job is not None else None
        if job is None or storage is None or archive is None:
            raise NotAttachedYet(f"{worker.pod}: its environment is not there")
        try:
            bucket = await self._context.buckets.open(storage)
        except BucketProblem as error:
            raise NotAttachedYet(str(error)) from error
        place = JobPlace.of(storage, settings.cluster_id, job.namespace, job.job_id)
        own = JobBucket(self._context.buckets, storage, bucket, f"{place.job}/results/")
        return {"url": own.url_to_get(archive["key"]), "sha256": archive["sha256"]}

    async def _begin(self, deployment: CustomResource) -> None:
        body = build_job(deployment, self._context.settings)
        name = body["metadata"]["name"]
        logger.info("%s: %s is built", deployment.full_name, name)
        try:
            made = await self._context.api.create(JOBS, body, deployment.namespace)
        except ApiError as error:
            if error.status != 409:
                raise
            made = await self._context.api.get(JOBS, name, deployment.namespace)
        self._context.cache.put(CustomResource.of(names.JOB, made))

    async def _again(self, job: CustomResource) -> None:
        """Delete a build that failed, since somebody asks anew: its cause may be gone."""
        try:
            await self._context.api.delete(JOBS, job.name, job.namespace, uid=job.uid)
        except ApiError as error:
            if error.status != 409:
                raise


def _archive(job: CustomResource) -> Mapping[str, Any] | None:
    """What a build that went well has made; nothing outside of its own keys is taken for it."""
    made = job.status.get("result")
    if not job.says("Complete") or not isinstance(made, Mapping):
        return None
    if {"key", "sha256", "size"} - set(made):
        return None
    return made if f"/jobs/{job.job_id}/results/" in made["key"] else None


def _why(job: CustomResource) -> str:
    """What the builder said last, or why it never began."""
    error = job.status.get("error") or {}
    ends = [c for c in job.status.get("conditions") or () if c.get("type") == "Failed"]
    words = error.get("message") or (ends[0]["message"] if ends else "it left no archive")
    return f"{job.full_name} failed: {words}"
