"""Commands that need no bucket: the Pod runs the program itself, its exit code is the result. Pure.

The Pods of a direct job stay until the job is deleted, so that `kubectl logs` has their output.
Each Pod that exits with another code than 0 is an attempt; each that was taken away is a
disruption.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .cache import CustomResource
from .observe import PodFact
from .reasons import Reason
from .status import Outcome
from .trouble import end_of


@dataclass(frozen=True, slots=True)
class DirectPlan:
    """What to do for a direct job: create a Pod, or nothing; `outcome` once it is over."""

    create: bool = False
    outcome: Outcome | None = None


def plan_direct(job: CustomResource, pods: Collection[PodFact], lost: int) -> DirectPlan:
    """Plan the next step; `lost` counts Pods that vanished before they ended."""
    ended = [pod for pod in pods if pod.ended]
    for pod in ended:
        if pod.exit_code == 0:
            message = f"Pod {pod.name} exited with 0"
            return DirectPlan(outcome=Outcome("Complete", Reason.COMPLETE, message, exit_code=0))
    if any(pod.alive for pod in pods):
        return DirectPlan()
    failed = [pod for pod in ended if pod.exit_code is not None and not pod.disrupted]
    disrupted = lost + len(ended) - len(failed)
    if len(failed) >= int(job.spec.get("maxAttempts") or 1):
        last = max(failed, key=lambda pod: (pod.created, pod.name))
        return DirectPlan(
            outcome=Outcome("Failed", Reason.COMMAND_FAILED, end_of(last), exit_code=last.exit_code)
        )
    allowed = job.spec.get("maxDisruptions")
    if disrupted > (5 if allowed is None else int(allowed)):
        return DirectPlan(
            outcome=Outcome(
                "Failed", Reason.DISRUPTIONS_EXCEEDED, f"its Pod was taken away {disrupted} times"
            )
        )
    return DirectPlan(create=True)
