"""From a resolved job to what the dispatcher wants to know of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.dispatch import CodePartRef, CodeRef, Inputs, JobSpec

from . import names
from .cache import CustomResource
from .quantities import whole
from .resolve import JobPlace, Resolution


def dispatch_spec(job: CustomResource, resolution: Resolution, cluster: str) -> JobSpec:
    """The JobSpec of a job that has a bucket.

    To the dispatcher a job's id is its uid: ids are drawn by submitters, and two namespaces may
    draw the same one.
    """
    storage = resolution.storage
    if storage is None:
        raise ValueError(f"{job.full_name} has no bucket")
    place = JobPlace.of(storage, cluster, job.namespace, resolution.job_id)
    spec = job.spec
    allowed, timeout = spec.get("maxDisruptions"), spec.get("taskTimeoutSeconds")
    backoff = spec.get("backoffSeconds")
    return JobSpec(
        id=job.uid,
        uid=job.uid,
        name=job.full_name,
        context=f"{cluster}/{job.uid}",
        prefix=place.job,
        kind=_kind(job),
        total=resolution.total,
        parallelism=resolution.parallelism,
        max_attempts=int(spec.get("maxAttempts") or 1),
        max_disruptions=5 if allowed is None else int(allowed),
        inputs=_inputs(spec, place),
        inline=_inline(job),
        code=_code(resolution, place),
        backoff=1.0 if backoff is None else float(backoff),
        timeout=float(timeout) if timeout else None,
        more_memory=bool(spec.get("retryWithMoreMemory")),
        memory=whole(resolution.template.memory),
        speculation=bool(spec.get("speculation")),
        suspended=job.suspended,
    )


def _kind(job: CustomResource) -> str:
    if job.kind == names.MAP_JOB:
        return "map"
    return "command" if job.spec.get("command") else "function"


def _payload(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    payload = (spec.get("function") or {}).get("payload") or spec.get("contextVariables")
    return payload if isinstance(payload, Mapping) else None


def _inputs(spec: Mapping[str, Any], place: JobPlace) -> Inputs | None:
    payload = _payload(spec)
    if payload is None:
        return None
    return Inputs(
        key=f"{place.job}/inputs/job", sha256=payload["sha256"], size=int(payload["size"])
    )


def _inline(job: CustomResource) -> dict[str, Any] | None:
    spec = job.spec
    if spec.get("command"):
        return {"argv": list(spec["command"])}
    function = spec.get("function") or {}
    if not function.get("name"):
        return None
    if job.kind == names.MAP_JOB:
        items = list((spec.get("items") or {}).get("inline") or ())
    else:
        items = [{"args": function.get("args") or [], "kwargs": function.get("kwargs") or {}}]
    return {"function": {"name": function["name"]}, "items": items}


def _code(resolution: Resolution, place: JobPlace) -> CodeRef | None:
    code = resolution.code
    if not code:
        return None
    return CodeRef(
        parts=tuple(
            CodePartRef(
                key=place.code(part["sha256"]), sha256=part["sha256"], size=int(part["size"])
            )
            for part in code["parts"]
        ),
        sys_paths=tuple(code.get("sysPaths") or ["."]),
        working_directory=code.get("workingDirectory") or ".",
    )
