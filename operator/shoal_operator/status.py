"""What a custom resource's status says, from what is known now. Pure.

The whole status is made anew each time and compared with the one that stands there; nothing in it
ticks, so an unchanged job is not written. Conditions follow Kubernetes: the transition time moves
only when the condition's status moves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shoal.dispatch import JobView
from shoal.worker import records

from . import names
from .cache import CustomResource
from .crews import Crew, connected, first_trouble, missing_workers
from .observe import seconds
from .reasons import Reason
from .resolve import Problem, Resolution
from .trouble import Trouble

RESULT_SIZE = 4096
TRACEBACK_SIZE = 4096

Conditions = list[dict[str, Any]]
Sign = tuple[str, bool, Reason, str]
"""A condition before it has a time: type, whether it holds, reason, message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: phase is Complete, Failed or Cancelled; `exit_code` of a direct command."""

    phase: str
    reason: Reason
    message: str
    exit_code: int | None = None
    error: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """All that a job's status is made of; times in seconds since the epoch."""

    job: CustomResource
    resolution: Resolution
    view: JobView | None
    outcome: Outcome | None
    problem: Problem | None
    crews: tuple[Crew, ...]
    """Its workers (of a direct command: its Pod)."""
    working: bool
    """Whether a worker has some of it in hand."""
    accepted: float
    """When the operator took it, or let it go on."""
    now: float

    @property
    def paused(self) -> bool:
        """Whether it is suspended, and has not ended."""
        return self.job.suspended and self.outcome is None


def outcome_of(view: JobView | None) -> Outcome | None:
    """How the ledger says that the job ended, if it does."""
    end = view.terminal if view is not None else None
    if end is None:
        return None
    error = None
    if end.error is not None:
        error = error_of(list(end.error))
    if end.outcome == "complete":
        return Outcome("Complete", Reason.COMPLETE, end.message or "all tasks succeeded")
    if end.outcome == "cancelled":
        return Outcome("Cancelled", Reason.CANCELLED, end.message or "cancelled")
    reason = Reason.of(end.reason, Reason.TASK_FAILED)
    return Outcome("Failed", reason, end.message or reason, error=error)


def job_status(facts: JobFacts) -> dict[str, Any]:
    """The status of a Job or MapJob."""
    job, resolution, view = facts.job, facts.resolution, facts.view
    old = job.status
    succeeded = view.succeeded if view else int(old.get("succeeded") or 0)
    failed = view.failed if view else int(old.get("failed") or 0)
    outcome = facts.outcome
    if resolution.direct and outcome is not None:
        succeeded, failed = (
            (1, 0)
            if outcome.phase == "Complete"
            else (0, int(outcome.reason is Reason.COMMAND_FAILED))
        )
    running = outcome is None and (facts.working or succeeded + failed > 0)
    status: dict[str, Any] = {
        "observedGeneration": job.generation,
        "phase": _phase(facts, running=running),
        "id": resolution.job_id,
        "total": resolution.total,
        "succeeded": succeeded,
        "failed": failed,
        "progress": f"{succeeded + failed}/{resolution.total}",
        "workers": _workers(facts),
        "conditions": _conditions(facts, running=running),
    }
    if start := _start(facts):
        status["startTime"] = start
    if resolution.deployment:
        status["deploymentName"] = resolution.deployment
    if resolution.template.environment:
        status["environmentJob"] = resolution.template.environment
    if resolution.storage is not None:
        status["storage"] = resolution.storage.status()
    if view is not None:
        status["ledger"] = {"length": view.ledger_length, "digest": view.ledger_digest}
        status["logs"] = {"length": view.logs_length}
        if view.results_file:
            status["resultsFile"] = view.results_file
    else:
        status.update({k: old[k] for k in ("ledger", "logs", "resultsFile") if k in old})
    if outcome is not None:
        end = old.get("completionTime") or timestamp(facts.now)
        status["completionTime"] = end
        status["duration"] = (
            duration(max(0.0, facts.now - facts.accepted))
            if not old.get("duration")
            else old["duration"]
        )
        if job.kind == names.JOB:
            status.update(_result(facts, outcome))
    return status


def _phase(facts: JobFacts, *, running: bool) -> str:
    if facts.outcome is not None:
        return facts.outcome.phase
    if facts.paused:
        return "Suspended"
    return "Running" if running else "Pending"


def _start(facts: JobFacts) -> str:
    """When it began; as with batch/v1, anew when it goes on after a pause, and not before then."""
    known = facts.job.status.get("startTime") or ""
    if facts.paused:
        return known
    if facts.job.says("Suspended") and facts.outcome is None:
        return timestamp(facts.accepted)
    return known or timestamp(facts.accepted)


def _workers(facts: JobFacts) -> dict[str, int]:
    if facts.outcome is not None or facts.paused:
        return {"ready": 0, "wanted": 0}
    view = facts.view
    wanted = view.wanted_workers if view is not None else facts.resolution.parallelism
    return {"ready": min(connected(facts.crews), wanted), "wanted": wanted}


def _result(facts: JobFacts, outcome: Outcome) -> dict[str, Any]:
    """What a reader without Python wants of a single call: result, exit code, error."""
    found: dict[str, Any] = {}
    if outcome.exit_code is not None:
        found["exitCode"] = outcome.exit_code
    if outcome.error is not None:
        found["error"] = dict(outcome.error)
    record = facts.view.only_record if facts.view is not None else None
    if record is None or record.ref is not None:
        return found
    data = bytes(record.data)
    try:
        if record.encoding == records.JSON and len(data) <= RESULT_SIZE:
            value = json.loads(data)
            if _survives(value):
                found["result"] = value
        elif record.encoding == records.EXIT:
            found["exitCode"] = int(json.loads(data)["returnCode"])
        elif record.encoding == records.ERROR:
            found["error"] = error_of(json.loads(data))
    except (ValueError, KeyError, TypeError):
        return found
    return found


def _survives(value: Any) -> bool:
    """Whether the API server gives back the same value: no other infinity, integer or text."""
    if isinstance(value, dict):
        return all(_survives(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_survives, value))
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def error_of(parts: Sequence[Any]) -> dict[str, str]:
    """(type, message, traceback) as the status has it; of a long traceback the end."""
    # what is no Unicode (a lone surrogate) the API server would not keep
    texts = [str(part or "").encode(errors="replace").decode() for part in [*parts, "", "", ""][:3]]
    return {
        "type": texts[0],
        "message": texts[1][:TRACEBACK_SIZE],
        "traceback": texts[2].encode()[-TRACEBACK_SIZE:].decode(errors="ignore"),
    }


def _conditions(facts: JobFacts, *, running: bool) -> Conditions:
    outcome, old = facts.outcome, facts.job.status.get("conditions") or []
    made = _at_the_end(outcome) if outcome is not None else _on_the_way(facts, running=running)
    if facts.resolution.capped:
        made.append(
            (
                "ParallelismCapped",
                True,
                Reason.PARALLELISM_CAPPED,
                f"at most {facts.resolution.parallelism} workers: the chart's maxParallelism",
            )
        )
    if outcome is not None and any(condition["type"] == "Suspended" for condition in old):
        made.append(("Suspended", False, outcome.reason, "it has ended"))
    if outcome is not None and outcome.phase != "Complete":
        kept = [c for c in old if c["type"] == "WorkersReady" and c["status"] == "False"]
    else:
        kept = []
    return merge_conditions(old, made, generation=facts.job.generation, now=facts.now) + kept


def _at_the_end(outcome: Outcome) -> list[Sign]:
    made: list[Sign] = []
    good = outcome.phase == "Complete"
    made.append(("Complete" if good else "Failed", True, outcome.reason, outcome.message))
    made.append(("Finished", True, outcome.reason, outcome.message))
    made.append(("Running", False, outcome.reason, outcome.message))
    return made


def _on_the_way(facts: JobFacts, *, running: bool) -> list[Sign]:
    made: list[Sign] = []
    known = {condition["type"] for condition in facts.job.status.get("conditions") or ()}
    held, trouble = facts.problem, first_trouble(facts.crews)
    if facts.paused:
        pause = "spec.suspend is true: set it to false to let it go on"
        made.append(("Running", False, Reason.SUSPENDED, pause))
        made.append(("WorkersReady", False, Reason.SUSPENDED, "it asks for no workers"))
        made.append(("Suspended", True, Reason.SUSPENDED, pause))
        return made
    if held is not None:
        made.append(("Running", False, held.reason, held.message))
    elif running:
        made.append(("Running", True, Reason.RUNNING, "workers have tasks in hand"))
    else:
        made.append(("Running", False, Reason.PENDING, "waits for a worker"))
    if connected(facts.crews):
        made.append(("WorkersReady", True, Reason.WORKERS_READY, "workers are connected"))
    elif trouble is not None:
        made.append(("WorkersReady", False, trouble.reason, trouble.message))
    elif held is not None:
        made.append(("WorkersReady", False, held.reason, held.message))
    else:
        made.append(("WorkersReady", False, Reason.PENDING, "no worker is connected yet"))
    if (missing := missing_workers(facts.crews)) is not None:
        made.append(("WorkersMissing", True, missing.reason, missing.message))
    elif "WorkersMissing" in known:
        made.append(("WorkersMissing", False, Reason.WORKERS_READY, "no worker is missing"))
    if "Suspended" in known:
        made.append(("Suspended", False, Reason.RESUMED, "it went on after a pause"))
    return made


def merge_conditions(
    old: Sequence[Mapping[str, Any]],
    made: Sequence[Sign],
    *,
    generation: int,
    now: float,
) -> Conditions:
    """Conditions as they stand now; each keeps its transition time while its status stays."""
    before = {condition["type"]: condition for condition in old}
    merged: Conditions = []
    for type_, holds, reason, message in made:
        known = before.get(type_)
        text = "True" if holds else "False"
        same = known is not None and known["status"] == text
        merged.append(
            {
                "type": type_,
                "status": text,
                "reason": str(reason),
                "message": message[:4096],
                "lastTransitionTime": known["lastTransitionTime"]
                if known is not None and same
                else timestamp(now),
                "observedGeneration": generation,
            }
        )
    return merged


def deployment_status(
    deployment: CustomResource,
    *,
    pool_hash: str,
    instance: str,
    replicas: int,
    ready: int,
    idle: int,
    wanted: int,
    trouble: Trouble | None,
    environment: Mapping[str, Any] | None,
    now: float,
) -> dict[str, Any]:
    """The status of a Deployment."""
    code = deployment.spec.get("code")
    bad = trouble is not None and not ready
    built = _environment_sign(environment) if environment is not None else None
    if built is not None and not built[1]:
        available = ("Available", False, built[2], built[3])
    elif bad and trouble is not None:
        available = ("Available", False, trouble.reason, trouble.message)
    else:
        available = ("Available", True, Reason.WORKERS_READY, "workers can be had")
    progressing = ready < wanted
    conditions = merge_conditions(
        deployment.status.get("conditions") or [],
        [
            available,
            (
                "Progressing",
                progressing,
                Reason.PENDING if progressing else Reason.WORKERS_READY,
                "workers are on their way" if progressing else "no worker is missing",
            ),
            *([built] if built is not None else []),
        ],
        generation=deployment.generation,
        now=now,
    )
    return {
        "observedGeneration": deployment.generation,
        "replicas": replicas,
        "readyReplicas": ready,
        "idle": idle,
        "selector": f"{names.POOL}={pool_hash},{names.INSTANCE}={instance}",
        "hash": pool_hash,
        "conditions": conditions,
        **({"codeSize": sum(part["size"] for part in code["parts"])} if code else {}),
        **({"environment": dict(environment)} if environment is not None else {}),
    }


def _environment_sign(environment: Mapping[str, Any]) -> Sign:
    reason = {
        "Building": Reason.ENVIRONMENT_BUILDING,
        "Ready": Reason.ENVIRONMENT_READY,
        "Failed": Reason.ENVIRONMENT_FAILED,
    }[environment["phase"]]
    return ("EnvironmentReady", environment["phase"] == "Ready", reason, environment["message"])


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch from `old` to `new`; empty when nothing differs."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if key in old and before == value:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                patch[key] = inner
        else:
            patch[key] = value
    return patch


def timestamp(moment: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def finished_at(job: CustomResource) -> float:
    """When a finished job ended; 0 if its status does not say."""
    return seconds(job.status.get("completionTime"))


def duration(span: float) -> str:
    """A length of time for people: 340ms, 12s, 3m4s, 2h5m."""
    if span < 1:
        return f"{span * 1000:.0f}ms"
    whole = round(span)
    if whole < 60:
        return f"{span:.1f}s" if span < 10 else f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s"
    return f"{whole // 3600}h{whole % 3600 // 60}m"
