"""What to do next: from what is wanted and what is observed to a list of actions. Pure.

There are two plans. A job's plan gets it into the dispatcher and ends it in time; a pool's plan
keeps as many Pods as its jobs can use. Both are level-triggered: they look at the present only, so
it does not matter which event came, how often, or whether one was missed. Neither imports kopf or
kubernetes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .cache import CustomResource
from .observe import PodFact
from .pools import Pool
from .reasons import Reason
from .resolve import Problem, Resolution
from .settings import Settings
from .trouble import History, Trouble, is_stale

MOST_COMING = 16
"""Pods on their way at once for one job.

Where more are connected already, as many as those: a crowd of short jobs, or a short map, is done
before more workers could help, and a long one doubles its workers at each step.
"""

# what a job's plan may ask for


@dataclass(frozen=True, slots=True)
class EnsureDeployment:
    """Make the Deployment of an inline spec unless it exists."""

    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AttachJob:
    """Give the job to the dispatcher, which reads its ledger."""


@dataclass(frozen=True, slots=True)
class SetParallelism:
    """Tell the dispatcher how many workers the job may have now."""

    workers: int


@dataclass(frozen=True, slots=True)
class FinishJob:
    """End the job: in the ledger where it has one, and in its status."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class DetachJob:
    """Let the dispatcher forget the job."""


# what a pool's plan may ask for


@dataclass(frozen=True, slots=True)
class CreatePods:
    """Create this many Pods of the pool."""

    count: int


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a Pod, by uid."""

    uid: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Have a worker exit after the task that it runs."""

    uid: str


Action = TypeVar("Action")
JobAction = EnsureDeployment | AttachJob | SetParallelism | FinishJob | DetachJob
PoolAction = CreatePods | DeletePod | Retire


@dataclass(frozen=True, slots=True)
class Plan(Generic[Action]):
    """Actions in order, and when to look again even if nothing happens (0: no need)."""

    actions: tuple[Action, ...] = ()
    wake_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """All that a job's plan looks at; times in seconds since the epoch."""

    job: CustomResource
    resolution: Resolution
    attached: bool
    ended: bool
    """The ledger (or the direct Pod) says that it is over."""
    parallelism: int
    """As the dispatcher knows it."""
    problem: Problem | None
    """What stands in the way, the resolution's own problem included."""
    problem_since: float
    trouble: Trouble | None
    workers: int
    """Connected workers of its pool."""
    accepted: float
    """When the operator took it."""
    now: float


def earliest(*times: float) -> float:
    """The first of some times, of which 0 means never."""
    return min((at for at in times if at > 0), default=0.0)


def plan_job(state: JobState) -> Plan[JobAction]:
    """Plan the next step of a job that has not finished, or the last one of a job that has."""
    job, resolution, now = state.job, state.resolution, state.now
    if job.finished or job.deleting or state.ended:
        return Plan((DetachJob(),)) if state.attached and not state.ended else Plan()
    deadline = _deadline(state)
    if job.spec.get("cancel"):
        return Plan((FinishJob(Reason.CANCELLED, "cancelled by spec.cancel"),))
    if deadline and now >= deadline:
        seconds = job.spec["activeDeadlineSeconds"]
        return Plan((FinishJob(Reason.DEADLINE_EXCEEDED, f"not done within {seconds} s"),))
    if state.problem is not None:
        fatal_at = state.problem_since + state.problem.patience
        if now >= fatal_at:
            return Plan((FinishJob(state.problem.reason, state.problem.message),))
        if resolution.problem is not None:
            return Plan((), earliest(deadline, fatal_at))
        deadline = earliest(deadline, fatal_at)
    trouble = state.trouble
    if trouble is not None and trouble.fatal_at is not None and not state.workers:
        if now >= trouble.fatal_at:
            return Plan((FinishJob(trouble.reason, trouble.message),))
        deadline = earliest(deadline, trouble.fatal_at)
    actions: list[JobAction] = []
    if resolution.inline is not None and resolution.pool is None:
        actions.append(EnsureDeployment(resolution.deployment, resolution.inline))
    if not resolution.direct and not state.attached:
        actions.append(AttachJob())
    elif state.attached and state.parallelism != resolution.parallelism:
        actions.append(SetParallelism(resolution.parallelism))
    return Plan(tuple(actions), deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """All that a pool's plan looks at."""

    pool: Pool
    pods: Collection[PodFact]
    connected: Collection[str]
    wanted: int
    """Workers that its jobs could use now."""
    widest: int
    """Workers that one of its jobs could use now, at the most."""
    history: History
    now: float
    up_since: float
    """When this operator began to listen for workers."""


def plan_pool(state: PoolState, settings: Settings) -> Plan[PoolAction]:
    """Plan a pool's Pods: min(max(minWorkers, wanted), maxWorkers) of them.

    What is too much leaves by itself when idle; only Pods that do not begin, Pods that are silent
    and Pods that ended are deleted. A Pod that begins on its node stays for the next job.
    """
    pool, now = state.pool, state.now
    ended = [pod for pod in state.pods if pod.ended and not pod.deleting]
    stale = [
        pod
        for pod in state.pods
        if is_stale(pod, state.connected, settings, now=now, up_since=state.up_since)
    ]
    gone = {pod.uid for pod in stale}
    alive = [pod for pod in state.pods if pod.alive and pod.uid not in gone]
    target = min(max(pool.min_workers, state.wanted), pool.max_workers)
    actions: list[PoolAction] = [DeletePod(pod.uid) for pod in [*ended, *stale]]
    missing = target - len(alive)
    wake_at = _contact_deadline(alive, state, settings)
    if missing > 0:
        if now >= state.history.retry_at:
            coming = sum(pod.uid not in state.connected for pod in alive)
            first = max(pool.min_workers, min(state.widest, MOST_COMING))
            room = max(first, len(state.connected)) - coming
            if room > 0:
                actions.append(CreatePods(min(missing, room)))
        else:
            wake_at = earliest(wake_at, state.history.retry_at)
    unborn = sorted(
        (pod for pod in alive if _is_not_beginning(pod, state, settings)),
        key=lambda pod: -pod.created,
    )
    actions.extend(DeletePod(pod.uid) for pod in unborn[: max(0, -missing)])
    excess = len(alive) - min(max(0, -missing), len(unborn)) - max(pool.max_workers, 0)
    working = sorted(pod.uid for pod in alive if pod.uid in state.connected)
    actions.extend(Retire(uid) for uid in working[: max(0, excess)])
    return Plan(tuple(actions), wake_at)


def _is_not_beginning(pod: PodFact, state: PoolState, settings: Settings) -> bool:
    """Whether no node took the Pod yet, or its node does not get it to begin."""
    if pod.started or pod.uid in state.connected:
        return False
    if not pod.node or pod.waiting_reason not in ("", "ContainerCreating", "PodInitializing"):
        return True
    return state.now - pod.created > settings.image_pull_seconds


def _contact_deadline(alive: list[PodFact], state: PoolState, settings: Settings) -> float:
    silent = [
        max(pod.started, state.up_since) + settings.contact_seconds
        for pod in alive
        if pod.started and pod.uid not in state.connected
    ]
    return min(silent, default=0.0)


def _deadline(state: JobState) -> float:
    seconds = state.job.spec.get("activeDeadlineSeconds")
    return state.accepted + float(seconds) if seconds else 0.0
