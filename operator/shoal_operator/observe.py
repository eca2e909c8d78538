"""What the operator keeps of a Pod: a few scalars, never its body.

kopf hands over whole Pods, managed fields included; with hundreds of workers that is megabytes that
nobody reads. `pod_fact` takes what the plan and the status look at and lets the rest go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import names


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFact:
    """One worker Pod as last seen; times in seconds since the epoch, 0 when unknown."""

    uid: str
    name: str
    namespace: str
    pool: str
    owner_uid: str
    mac: str
    node: str = ""
    phase: str = "Pending"
    reason: str = ""
    """The Pod's own reason, e.g. Evicted."""
    message: str = ""
    created: float = 0.0
    started: float = 0.0
    """When the worker's container began to run."""
    waiting_reason: str = ""
    waiting_message: str = ""
    unschedulable: str = ""
    """The scheduler's words when it finds no node, else empty."""
    exit_code: int | None = None
    exit_reason: str = ""
    finished: float = 0.0
    """When it ended."""
    termination_message: str = ""
    disrupted: str = ""
    """Reason of the condition DisruptionTarget, else empty."""
    deleting: bool = False

    @property
    def ended(self) -> bool:
        """Whether the container will run no more."""
        return self.phase in ("Succeeded", "Failed") or self.exit_code is not None

    @property
    def alive(self) -> bool:
        """Whether the Pod still counts as a worker, be it on its way."""
        return not self.ended and not self.deleting


def pod_fact(body: Mapping[str, Any]) -> PodFact:
    """Take the facts out of a Pod's body."""
    meta = body.get("metadata") or {}
    status = body.get("status") or {}
    labels = meta.get("labels") or {}
    container = _worker_status(status)
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    disruption = conditions.get("DisruptionTarget") or {}
    unschedulable = (
        scheduled.get("message") or "no node fits"
        if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
        else ""
    )
    return PodFact(
        uid=meta.get("uid", ""),
        name=meta.get("name", ""),
        namespace=meta.get("namespace", ""),
        pool=labels.get(names.POOL, ""),
        owner_uid=next(
            (o["uid"] for o in meta.get("ownerReferences") or () if o.get("controller")), ""
        ),
        mac=(meta.get("annotations") or {}).get(names.MAC, ""),
        node=(body.get("spec") or {}).get("nodeName") or "",
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        created=seconds(meta.get("creationTimestamp")),
        started=seconds((state.get("running") or ended).get("startedAt")),
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        unschedulable=unschedulable,
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason") or "",
        finished=seconds(ended.get("finishedAt")),
        termination_message=ended.get("message") or "",
        disrupted=disruption.get("reason") or "" if disruption.get("status") == "True" else "",
        deleting=bool(meta.get("deletionTimestamp")),
    )


def seconds(text: str | None) -> float:
    """RFC 3339 to seconds since the epoch; 0 for nothing."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _worker_status(status: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == names.WORKER_CONTAINER:
            return dict(container)
    return {}
