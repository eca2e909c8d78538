"""Environments: packages that a Deployment names, built once and unpacked by each of its workers.

A build is a Job of the operator's own, named by the hash of what is built, so that it is made once
however many ask. Its result is the archive, which lies among that Job's keys: it stays as long as
the Job does, and that is as long as a Deployment wants it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shoal.dispatch import NotAttachedYet, WorkerIdentity
from shoal.errors import ApiError, StorageError
from shoal.kube import JOBS

from . import names
from .buckets import BucketProblem
from .cache import CustomResource
from .context import Context
from .jobbucket import JobBucket
from .pools import build_name, of_build
from .reasons import Reason
from .resolve import JobPlace, storage_of_spec
from .runs import Run
from .settings import Settings

logger = logging.getLogger(__name__)

BUILDER = "_shoal_worker.building.build"
GIT_SECRET = {
    "USERNAME": "username",
    "PASSWORD": "password",
    "PRIVATE_KEY": "ssh-privatekey",
    "KNOWN_HOSTS": "known_hosts",
    "CA": "ca.crt",
}
"""The entries of a Secret for git, and how the builder's variables with them end."""
OF_A_RUN_SECONDS = 300
"""How long what was built for one run is kept after its last use."""
RETRY_SECONDS = 5.0
"""How often a build that the API server refuses is asked for again, where that may heal."""


@dataclass(frozen=True, slots=True)
class State:
    """How a Deployment's environment stands.

    `uid` is that of the build which failed, `archive` the result of one that went well; at
    `retry_at` it is to be looked at again.
    """

    phase: Literal["Building", "Ready", "Failed"]
    job: str
    message: str
    uid: str = ""
    archive: Mapping[str, Any] | None = None
    retry_at: float = 0.0

    def status(self) -> dict[str, Any]:
        """As it stands in the Deployment's status."""
        found = {"phase": self.phase, "job": self.job, "message": self.message}
        if self.uid:
            found["uid"] = self.uid
        archive = self.archive or {}
        shown = ("sha256", "size", "python", "commit")
        return found | {key: archive[key] for key in shown if archive.get(key)}


def build_job(deployment: CustomResource, settings: Settings) -> dict[str, Any]:
    """The Job that builds a Deployment's environment."""
    where = of_build(deployment.spec, settings)
    wanted, storage = where.pop("environment"), where.pop("storage", None)
    git = wanted.get("git") or {}
    where["environmentVariables"] = [
        *({"name": name, "value": value} for name, value in settings.build_variables.items()),
        *_from_secret(git.get("secretName")),
    ]
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.JOB,
        "metadata": {
            "name": build_name(deployment.spec, settings),
            "labels": {**names.ours(settings.instance), names.ENVIRONMENT: "true"},
        },
        "spec": {
            "function": {
                "name": BUILDER,
                "args": [_with_settings(wanted, settings), settings.machine],
            },
            "deployment": where,
            "resources": {"memory": settings.build_memory},
            "isolation": "job",
            "activeDeadlineSeconds": int(settings.build_seconds),
            **({"ttlSecondsAfterFinished": OF_A_RUN_SECONDS} if git.get("run") else {}),
            **({"storage": storage} if storage else {}),
        },
    }


class EnvironmentKeeper:
    """Has environments built, and tells workers where they are."""

    def __init__(
        self, context: Context, *, runs_of: Callable[[CustomResource], Iterable[Run]]
    ) -> None:
        """`runs_of(deployment)` are the unfinished jobs that use a Deployment."""
        self._context = context
        self._runs_of = runs_of
        self._doomed: dict[tuple[str, str], str] = {}
        """Uids of builds that were deleted here; the watch may show them for a while."""
        self._used: dict[tuple[str, str], float] = {}
        """By namespace and name of the build, when an environment was last seen in use."""

    async def keep(self, deployment: CustomResource) -> State | None:
        """Have a Deployment's environment built if it is not; None where it wants none.

        A build that failed is made anew for a job that came after it, and for a Deployment that has
        not seen it fail: its cause may be gone.
        """
        name = build_name(deployment.spec, self._context.settings)
        if not name:
            return None
        told = deployment.status.get("environment") or {}
        if told.get("job") != name:
            told = {}
        job = self._context.cache.named(names.JOB, deployment.namespace, name)
        if job is None:
            uid = told.get("uid") or ""
            if told.get("phase") == "Failed" and not self._is_asked_anew(deployment, uid):
                return State("Failed", name, told["message"], uid)
            return await self._begin(deployment, name)
        doomed = self._doomed.get((job.namespace, job.name)) == job.uid
        if doomed or job.deleting or not job.finished:
            return _building(job)
        if (archive := _archive(job)) is not None:
            return State("Ready", name, f"built by {job.full_name}", archive=archive)
        if told and not self._is_asked_anew(deployment, job.uid):
            return State("Failed", name, _why(job), job.uid)
        await self._delete(job)
        self._doomed[job.namespace, job.name] = job.uid
        return _building(job)

    def look(self, now: float) -> None:
        """Take down which environments some Deployment uses now."""
        cache, settings = self._context.cache, self._context.settings
        self._used = {key: at for key, at in self._used.items() if cache.named(names.JOB, *key)}
        for deployment in cache.resources(names.DEPLOYMENT):
            if name := build_name(deployment.spec, settings):
                self._used[deployment.namespace, name] = now

    def last_used(self, job: CustomResource) -> float:
        """When a Job's environment was last seen in use; 0 if it holds none.

        What an operator before this one has seen is not known: it counts as used until then.
        """
        if names.ENVIRONMENT not in job.labels or not job.says("Complete"):
            return 0.0
        return self._used.get((job.namespace, job.name), self._context.up_since)

    def of_build(self, job: CustomResource) -> list[CustomResource]:
        """The Deployments whose environment a Job builds."""
        return [
            deployment
            for deployment in self._context.cache.resources(names.DEPLOYMENT)
            if deployment.namespace == job.namespace
            and build_name(deployment.spec, self._context.settings) == job.name
        ]

    async def place(self, worker: WorkerIdentity, name: str) -> dict[str, Any]:
        """Tell a worker where the environment of that name is, and what it is.

        Raises:
            NotAttachedYet: it is not there, or the bucket is away; it may come.
        """
        settings = self._context.settings
        job = self._context.cache.named(names.JOB, worker.namespace, name)
        archive = _archive(job) if job is not None else None
        storage = storage_of_spec(job.spec.get("storage"), job, settings) if job else None
        if job is None or storage is None or archive is None:
            raise NotAttachedYet(f"{names.full_name(names.JOB, name)} has no archive (yet)")
        place = JobPlace.of(storage, settings.cluster_id, job.namespace, job.job_id)
        try:
            bucket = await self._context.buckets.open(storage)
            own = JobBucket(self._context.buckets, storage, bucket, f"{place.job}/results/")
            url = own.url_to_get(archive["key"])
        except (BucketProblem, StorageError) as error:
            raise NotAttachedYet(str(error)) from error
        return {
            "url": url,
            **{key: archive[key] for key in (*_TOLD, "source", "conda") if key in archive},
        }

    def _is_asked_anew(self, deployment: CustomResource, uid: str) -> bool:
        return bool(uid) and any(run.met == uid for run in self._runs_of(deployment))

    async def _begin(self, deployment: CustomResource, name: str) -> State:
        logger.info("%s: %s is built", deployment.full_name, name)
        body = build_job(deployment, self._context.settings)
        try:
            made = await self._context.api.create(JOBS, body, deployment.namespace)
        except ApiError as error:
            if error.status == 409:
                made = await self._context.api.get(JOBS, name, deployment.namespace)
            elif error.status in (400, 413, 422):
                words = f"the API server refuses {names.full_name(names.JOB, name)}: {error}"
                return State("Failed", name, words, f"refused-{time.time_ns()}")
            elif error.status == 403:
                words = f"{names.full_name(names.JOB, name)} can't be made: {error}"
                return State("Building", name, words, retry_at=time.time() + RETRY_SECONDS)
            else:
                raise
        job = CustomResource.of(names.JOB, made)
        self._context.cache.put(job)
        return _building(job)

    async def _delete(self, job: CustomResource) -> None:
        logger.info("%s in %s failed, and is made anew", job.full_name, job.namespace)
        try:
            await self._context.api.delete(JOBS, job.name, job.namespace, uid=job.uid)
        except ApiError as error:
            if error.status != 409:
                raise


def _with_settings(wanted: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """What is wanted, with what the chart says of where it comes from."""
    ours: dict[str, Any] = {}
    if settings.debian_sources and (wanted.get("software") or wanted.get("git")):
        ours["softwareSources"] = list(settings.debian_sources)
    if wanted.get("git"):
        ours["knownHosts"] = list(settings.known_hosts)
    return {**ours, **wanted}


def _from_secret(name: str | None) -> list[dict[str, Any]]:
    """Variables with what a Secret may hold for a git repository."""
    return [
        {
            "name": f"SHOAL_GIT_{variable}",
            "valueFrom": {"secretKeyRef": {"name": name, "key": key, "optional": True}},
        }
        for variable, key in GIT_SECRET.items()
        if name
    ]


_TOLD = ("sha256", "python", "machine")


def _building(job: CustomResource) -> State:
    """A build that is under way, and what keeps its Pod away, if anything does."""
    words = f"{job.full_name} builds its environment"
    for condition in job.status.get("conditions") or ():
        late = condition.get("type") == "WorkersReady" and condition.get("status") == "False"
        if late and condition.get("reason") != Reason.PENDING and not job.finished:
            words = f"{job.full_name} waits ({condition['reason']}): {condition['message']}"
    return State("Building", job.name, words)


def _archive(job: CustomResource) -> Mapping[str, Any] | None:
    """What a build that went well has made."""
    made = job.status.get("result")
    if not job.says("Complete") or not isinstance(made, Mapping):
        return None
    whole = all(isinstance(made.get(key), str) for key in ("key", *_TOLD))
    own = f"/jobs/{job.job_id}/results/"  # nothing else is signed for it
    return made if whole and own in made["key"] else None


def _why(job: CustomResource) -> str:
    """What the builder said last, or why it never began."""
    error = job.status.get("error") or {}
    ends = [c for c in job.status.get("conditions") or () if c.get("type") == "Failed"]
    words = error.get("message") or (ends[0]["message"] if ends else "it left no archive")
    return f"{job.full_name} failed: {words}"
