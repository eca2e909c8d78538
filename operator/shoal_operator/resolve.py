"""From a Job's spec to what it needs: total, storage, pool, Deployment. Pure.

Everything that the spec leaves open is settled here, once, and everything that stands in the way is
named here as a Problem: the rest of the operator works with a Resolution and never with raw specs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from . import names
from .cache import CustomResource
from .pools import Pool, Template, digest, sized, template
from .reasons import Reason
from .settings import Settings

FOREVER = 1e9
"""Seconds; the patience with what a job's own deadline may end, and nothing else."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a job can't run now; it fails for that reason when `patience` seconds are over."""

    reason: Reason
    message: str
    patience: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A bucket as a job uses it. `secret` empty means: the operator's own key."""

    bucket: str
    endpoint: str = ""
    endpoint_in_cluster: str = ""
    region: str = ""
    prefix: str = ""
    secret: str = ""
    namespace: str = ""
    """Namespace of the secret."""

    def status(self) -> dict[str, str]:
        """As it stands in a Job's status, for clients that read results."""
        fields = {
            "bucket": self.bucket,
            "endpoint": self.endpoint,
            "endpointInCluster": self.endpoint_in_cluster,
            "region": self.region,
            "prefix": self.prefix,
        }
        return {key: value for key, value in fields.items() if value}

    def folder(self, cluster: str, namespace: str) -> str:
        """The only part of the bucket that is signed for jobs of `namespace`; ends in a slash."""
        head = f"{self.prefix}/" if self.prefix else ""
        return f"{head}{cluster}/{namespace}/"


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where a job's keys lie."""

    folder: str
    job: str

    @classmethod
    def of(cls, storage: Storage, cluster: str, namespace: str, job_id: str) -> JobPlace:
        """The place of a job; `folder` and `job` without a slash at the end of `job`."""
        folder = storage.folder(cluster, namespace)
        return cls(folder, f"{folder}jobs/{job_id}")

    def code(self, sha256: str) -> str:
        """Key of a part of code, shared inside the namespace."""
        return f"{self.folder}code/{sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A job with everything settled."""

    job_id: str
    total: int
    parallelism: int
    capped: bool
    storage: Storage | None
    template: Template
    deployment: str
    """Name of its Deployment; empty when its Pods are its own."""
    exists: bool
    """Whether that Deployment is there."""
    inline: Mapping[str, Any] | None
    """Spec of the Deployment that the operator makes for it, else None."""
    pools: tuple[Pool, ...]
    """Its workers' pools by size, first the usual one, then with 2, 3, ... times the memory for
    further attempts; empty until the Deployment exists."""
    code: Mapping[str, Any] | None
    direct: bool
    """The Pod runs the command itself: no bucket, no worker."""
    start_deadline: float
    """Seconds that it may have no worker for want of room."""
    problem: Problem | None

    @property
    def pool(self) -> Pool | None:
        """The pool of its first attempts; None until the Deployment exists."""
        return self.pools[0] if self.pools else None

    def sized(self, size: int) -> Pool:
        """The pool whose workers have `size` times the memory; only with `pools`."""
        return self.pools[size - 1]

    def in_use(self, sizes: Collection[int]) -> tuple[Pool, ...]:
        """The usual pool, and those of `sizes`."""
        return tuple(p for n, p in enumerate(self.pools, start=1) if n == 1 or n in sizes)


def resolve(
    job: CustomResource,
    find: Callable[[str], CustomResource | None],
    settings: Settings,
    *,
    begun: bool = False,
    met: str = "",
) -> Resolution:
    """Settle what `job` needs; `find` looks up a Deployment of the job's namespace by name.

    One that has `begun` does not wait for its environment any more. `met` is the uid of the build
    that had failed before the job came: it waits for another one.
    """
    spec = job.spec
    total = _total(job)
    parallelism, capped = _parallelism(job, total, settings)
    chosen = dict(spec.get("deployment") or {})
    name, inline, problem = chosen.get("ref") or "", None, None
    deployment = find(name) if name else None
    content: Mapping[str, Any] = _with_run(_with_python(chosen, spec), job)
    if name:
        content = deployment.spec if deployment else {}
        if deployment is None:
            patience = float(spec.get("deploymentDeadlineSeconds") or settings.deployment_seconds)
            problem = Problem(
                Reason.DEPLOYMENT_NOT_FOUND,
                f"{names.full_name(names.DEPLOYMENT, name)} does not exist in {job.namespace}: "
                "create it, or correct spec.deployment.ref",
                patience,
            )
    resources = spec.get("resources") or {}
    storage = storage_of_spec(spec.get("storage") or content.get("storage"), job, settings)
    direct = storage is None and bool(spec.get("command")) and not content.get("environment")
    private = direct or spec.get("isolation") == "job"
    made = template(content, settings, resources=resources)
    needs_build = bool(made.environment)
    if not name and (needs_build or not private):
        inline = _inline_spec(content, resources)
        if needs_build and spec.get("storage"):
            inline["storage"] = spec["storage"]
        name = f"shoal-{digest([inline, made.hash])}"
        deployment = find(name)
    if private:
        made = replace(made, private_to=job.uid)
    if names.ENVIRONMENT in job.labels:
        made = replace(made, machine=settings.machine)
    ready = not needs_build or (
        deployment is not None and (begun or is_built(deployment, made.environment))
    )
    if problem is None:
        problem = _storage_problem(storage, direct)
    if problem is None and deployment is not None and not ready:
        problem = _build_problem(deployment, met)
    pool = None
    if ready:
        pool = _pool(job, made, deployment, parallelism, settings, private=private)
    return Resolution(
        job_id=job.job_id,
        total=total,
        parallelism=parallelism,
        capped=capped,
        storage=storage,
        template=made,
        deployment=name,
        exists=deployment is not None,
        inline=inline,
        pools=_pools(job, pool),
        code=content.get("code"),
        direct=direct,
        start_deadline=float(spec.get("startDeadlineSeconds") or settings.start_deadline_seconds),
        problem=problem,
    )


def deployment_pool(
    deployment: CustomResource, settings: Settings, sized: Template | None = None
) -> Pool:
    """The pool of a Deployment: its own size, or that of a job which asks for another."""
    spec = deployment.spec
    own = template(spec, settings)
    made = sized or own
    least = int(spec.get("minWorkers") or 0) if made == own else 0
    most = spec.get("maxWorkers")
    return Pool(
        namespace=deployment.namespace,
        template=made,
        owner_kind=names.DEPLOYMENT,
        owner_name=deployment.name,
        owner_uid=deployment.uid,
        min_workers=least,
        max_workers=max(least, int(settings.max_parallelism if most is None else most)),
        idle_seconds=float(spec.get("idleSeconds", 300)),
    )


def _pool(
    job: CustomResource,
    made: Template,
    deployment: CustomResource | None,
    parallelism: int,
    settings: Settings,
    *,
    private: bool,
) -> Pool | None:
    if private:
        return Pool(
            namespace=job.namespace,
            template=made,
            owner_kind=job.kind,
            owner_name=job.name,
            owner_uid=job.uid,
            max_workers=parallelism,
            idle_seconds=30.0,
        )
    return deployment_pool(deployment, settings, made) if deployment else None


def _pools(job: CustomResource, pool: Pool | None) -> tuple[Pool, ...]:
    if pool is None:
        return ()
    most = int(job.spec.get("maxAttempts") or 1) if job.spec.get("retryWithMoreMemory") else 1
    return tuple(sized(pool, size) for size in range(1, most + 1))


def _with_python(chosen: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """An inline Deployment that names neither image nor Python runs the Python that pickled."""
    payload = (spec.get("function") or {}).get("payload") or spec.get("contextVariables") or {}
    if chosen.get("image") or chosen.get("python") or not payload.get("python"):
        return chosen
    return {**chosen, "python": payload["python"]}


def _with_run(chosen: Mapping[str, Any], job: CustomResource) -> Mapping[str, Any]:
    """A run that names a branch itself gets it as it is now, not as an earlier one found it."""
    environment = chosen.get("environment") or {}
    git = environment.get("git") or {}
    if not git.get("branch"):
        return chosen
    return {**chosen, "environment": {**environment, "git": {**git, "run": job.uid}}}


def _total(job: CustomResource) -> int:
    if job.kind == names.JOB:
        return 1
    items = job.spec.get("items") or {}
    packed = items.get("packed")
    return int(packed["count"]) if packed else len(items.get("inline") or ())


def _parallelism(job: CustomResource, total: int, settings: Settings) -> tuple[int, bool]:
    asked = int(job.spec.get("parallelism") or total // 2 + 1)
    wanted = max(1, min(asked, total))
    return min(wanted, settings.max_parallelism), wanted > settings.max_parallelism


def _inline_spec(content: Mapping[str, Any], resources: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in content.items() if k not in ("ref", "storage") and v is not None}
    sized = {**(content.get("resources") or {}), **resources}
    return {**kept, **({"resources": sized} if sized else {})}


def storage_of_spec(
    spec: Mapping[str, Any] | None, job: CustomResource, settings: Settings
) -> Storage | None:
    """The bucket that a `spec.storage` names, else the default one, else None."""
    if spec:
        return Storage(
            bucket=spec["bucket"],
            endpoint=(spec.get("endpoint") or "").rstrip("/"),
            endpoint_in_cluster=(spec.get("endpointInCluster") or "").rstrip("/"),
            region=spec.get("region") or "",
            prefix=(spec.get("prefix") or "").strip("/"),
            secret=spec.get("secretName") or "",
            namespace=job.namespace,
        )
    if not settings.default_bucket:
        return None
    return default_storage(settings)


def default_storage(settings: Settings) -> Storage:
    """The bucket that the chart names, used with the operator's own key."""
    return Storage(
        bucket=settings.default_bucket,
        endpoint=settings.default_endpoint,
        endpoint_in_cluster=settings.default_endpoint_in_cluster,
        region=settings.default_region,
        prefix=settings.default_prefix,
        namespace=settings.namespace,
    )


def is_built(deployment: CustomResource, build: str) -> bool:
    """Whether the environment of that name is there, as the Deployment's status says."""
    told = deployment.status.get("environment") or {}
    return bool(told.get("phase") == "Ready" and told.get("job") == build)


def failed_build(deployment: CustomResource | None) -> str:
    """The uid of the build that a Deployment's status calls failed; empty if there is none."""
    told = (deployment.status.get("environment") or {}) if deployment is not None else {}
    return str(told.get("uid") or "failed") if told.get("phase") == "Failed" else ""


def _build_problem(deployment: CustomResource, met: str) -> Problem:
    """A job waits as long as its environment is built, and fails with a build that fails."""
    told = deployment.status.get("environment") or {}
    failed = failed_build(deployment)
    if failed and failed != met:
        return Problem(Reason.ENVIRONMENT_FAILED, told["message"])
    words = told.get("message") if told.get("phase") == "Building" else ""
    message = words or f"the environment of {deployment.full_name} is not built yet"
    return Problem(Reason.ENVIRONMENT_BUILDING, message, patience=FOREVER)


def _storage_problem(storage: Storage | None, direct: bool) -> Problem | None:
    if storage is None:
        if direct:
            return None
        return Problem(
            Reason.NO_BUCKET,
            "no bucket is configured: set spec.storage, or the chart's storage values",
        )
    for endpoint in (storage.endpoint, storage.endpoint_in_cluster):
        if storage.secret and endpoint and is_forbidden(endpoint):
            return Problem(
                Reason.ACCESS_DENIED,
                f"spec.storage: {endpoint} is a loopback or link-local address, "
                "which the operator does not talk to on behalf of a job",
            )
    return None


def is_forbidden(endpoint: str) -> bool:
    """Whether an endpoint names this very machine or its metadata service."""
    host = (urlsplit(endpoint).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(
        mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast
    )
