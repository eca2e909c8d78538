"""Commands that need no bucket: the Pod runs the program itself, its exit code is the result. Pure.

The Pods of a direct job stay until the job is deleted, so that `kubectl logs` has their output.
Each Pod that exits with another code than 0, or takes too long, is an attempt; each that was taken
away is a disruption.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from shoal.dispatch.tasks import retry_wait

from .cache import CustomResource
from .endings import OUT_OF_TIME, end_of, gone_reason
from .observe import PodFact
from .reasons import Reason
from .status import Outcome


@dataclass(frozen=True, slots=True)
class DirectPlan:
    """What to do for a direct job; `outcome` once it is over.

    `create` is a Pod with so many times the memory, 0 for none; `delete` names Pods by uid;
    `wake_at` is when to look again.
    """

    create: int = 0
    delete: tuple[str, ...] = ()
    wake_at: float = 0.0
    outcome: Outcome | None = None


def plan_direct(
    job: CustomResource, pods: Collection[PodFact], lost: int, now: float
) -> DirectPlan:
    """Plan the next step; `lost` counts Pods that vanished before they ended."""
    ended = [pod for pod in pods if pod.ended]
    for pod in ended:
        if pod.exit_code == 0 and pod.reason != OUT_OF_TIME:
            message = f"Pod {pod.name} exited with 0"
            return DirectPlan(outcome=Outcome("Complete", Reason.COMPLETE, message, exit_code=0))
    alive = [pod for pod in pods if pod.alive]
    if alive:
        return DirectPlan(delete=tuple(pod.uid for pod in alive) if job.suspended else ())
    failed = failed_attempts(ended)
    if len(failed) >= int(job.spec.get("maxAttempts") or 1):
        return DirectPlan(outcome=_failed(job, failed[-1]))
    disrupted = lost + len(ended) - len(failed)
    allowed = job.spec.get("maxDisruptions")
    if disrupted > (5 if allowed is None else int(allowed)):
        message = f"its Pod was taken away {disrupted} times"
        return DirectPlan(outcome=Outcome("Failed", Reason.DISRUPTIONS_EXCEEDED, message))
    if job.suspended:
        return DirectPlan()
    due = failed[-1].finished + _backoff(job, len(failed)) if failed else 0.0
    return DirectPlan(wake_at=due) if now < due else DirectPlan(create=size_of(job, pods))


def size_of(job: CustomResource, pods: Collection[PodFact]) -> int:
    """How many times the memory the Pod of the current attempt has, or that of the last one."""
    if not job.spec.get("retryWithMoreMemory"):
        return 1
    return min(1 + len(failed_attempts(pods)), int(job.spec.get("maxAttempts") or 1))


def failed_attempts(pods: Collection[PodFact]) -> list[PodFact]:
    """The Pods that ended by their own fault, the last one last."""
    failed = [
        pod
        for pod in pods
        if pod.reason == OUT_OF_TIME
        or (pod.exit_code not in (None, 0) and gone_reason(pod) in ("exited", "oom"))
    ]
    return sorted(failed, key=lambda pod: (pod.created, pod.finished, pod.name))


def _failed(job: CustomResource, last: PodFact) -> Outcome:
    if last.reason != OUT_OF_TIME:
        return Outcome("Failed", Reason.COMMAND_FAILED, end_of(last), exit_code=last.exit_code)
    seconds = job.spec.get("taskTimeoutSeconds")
    message = f"Pod {last.name} took longer than its {seconds} s"
    error = {"type": "TaskTimeout", "message": message, "traceback": ""}
    return Outcome("Failed", Reason.COMMAND_FAILED, message, error=error)


def _backoff(job: CustomResource, failures: int) -> float:
    first = job.spec.get("backoffSeconds")
    seconds = 1.0 if first is None else float(first)
    return retry_wait(seconds, failures)
