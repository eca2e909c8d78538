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
from .crews import Crew
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
class SetSuspended:
    """Have the dispatcher hold the job back, or let it go on."""

    suspended: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the tasks that wait for workers of a size which can't be had."""

    size: int
    message: str


@dataclass(frozen=True, slots=True)
class FinishJob:
    """End the job: in the ledger where it has one, and in its status."""

    reason: Reason
    message: str


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
JobAction = EnsureDeployment | AttachJob | SetParallelism | SetSuspended | GiveUp | FinishJob
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
    untouched: bool
    """No dispatcher can have worked on it."""
    attached: bool
    ended: bool
    """The ledger (or the direct Pod) says that it is over."""
    parallelism: int
    """As the dispatcher knows it."""
    held: bool
    """Whether the dispatcher holds it back."""
    problem: Problem | None
    """What stands in the way, the resolution's own problem included."""
    problem_since: float
    crews: tuple[Crew, ...]
    """Its workers, the usual ones first."""
    accepted: float
    """When the operator took it, or let it go on."""
    now: float


def earliest(*times: float) -> float:
    """The first of some times, of which 0 means never."""
    return min((at for at in times if at > 0), default=0.0)


def plan_job(state: JobState) -> Plan[JobAction]:
    """Plan the next step of a job; there is none for one that has finished."""
    job, resolution, now = state.job, state.resolution, state.now
    if job.finished or job.deleting or state.ended:
        return Plan()
    if job.spec.get("cancel"):
        return Plan((FinishJob(Reason.CANCELLED, "cancelled by spec.cancel"),))
    if job.suspended:
        return _plan_suspended(state)
    clocks = _clocks(state)
    over = [action for at, action in clocks if now >= at]
    wake_at = earliest(*(at for at, _ in clocks if now < at))
    ends = [action for action in over if isinstance(action, FinishJob)]
    if ends:
        return Plan((ends[0],))
    if resolution.problem is not None:
        return Plan((), wake_at)
    return Plan((*_steps(state), *over), wake_at)


def _clocks(state: JobState) -> list[tuple[float, FinishJob | GiveUp]]:
    """What is to happen at which time unless something changes."""
    resolution = state.resolution
    clocks: list[tuple[float, FinishJob | GiveUp]] = []
    seconds = state.job.spec.get("activeDeadlineSeconds")
    if seconds:
        late = FinishJob(Reason.DEADLINE_EXCEEDED, f"not done within {seconds} s")
        clocks.append((state.accepted + float(seconds), late))
    if (problem := state.problem) is not None:
        fatal_at = state.problem_since + problem.patience
        clocks.append((fatal_at, FinishJob(problem.reason, problem.message)))
    for crew in state.crews:
        trouble, fatal = crew.trouble, crew.ends_at(resolution.start_deadline)
        if trouble is None or fatal is None:
            continue
        words = _no_room(crew, trouble, resolution.start_deadline)
        if crew.size > 1 and not resolution.direct:
            clocks.append((fatal, GiveUp(crew.size, words)))
        else:
            clocks.append((fatal, FinishJob(trouble.reason, words)))
    return clocks


def _plan_suspended(state: JobState) -> Plan[JobAction]:
    """A job that pauses fails for nothing: no clock runs, and what stands in its way can wait.

    One that no dispatcher has worked on stays out of it, so that nothing of it is touched.
    """
    out = not state.attached and (state.untouched or state.problem is not None)
    return Plan() if out else Plan(tuple(_steps(state)))


def _steps(state: JobState) -> list[JobAction]:
    """What brings the job into the dispatcher, and the dispatcher up to date."""
    resolution = state.resolution
    actions: list[JobAction] = []
    if resolution.inline is not None and not resolution.exists:
        actions.append(EnsureDeployment(resolution.deployment, resolution.inline))
    if resolution.direct:
        return actions
    if not state.attached:
        return [*actions, AttachJob()]
    if state.held != state.job.suspended:
        actions.append(SetSuspended(state.job.suspended))
    if state.parallelism != resolution.parallelism:
        actions.append(SetParallelism(resolution.parallelism))
    return actions


def _no_room(crew: Crew, trouble: Trouble, patience: float) -> str:
    """Why a worker is waited for no more: the trouble's own words and the remedy."""
    words = trouble.message
    if trouble.fatal_at is None:
        words = (
            f"no worker could start within {patience:g} s: {words}; ask for less in "
            "spec.resources, make room, or set a longer spec.startDeadlineSeconds"
        )
    if crew.size == 1:
        return words
    return f"attempt {crew.size} needs a worker with {crew.memory} of memory: {words}"


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
    entering: Collection[str] = ()
    """Pods whose workers get ready to connect."""

    @property
    def heard(self) -> Collection[str]:
        """The Pods that have been heard of, one way or the other."""
        return {*self.connected, *self.entering}

    def stale(self, settings: Settings) -> list[PodFact]:
        """Its Pods that have been silent for too long."""
        heard = self.heard
        return [
            pod
            for pod in self.pods
            if is_stale(pod, heard, settings, now=self.now, up_since=self.up_since)
        ]

    def alive(self, settings: Settings) -> list[PodFact]:
        """Its Pods that count as workers, be they on their way."""
        gone = {pod.uid for pod in self.stale(settings)}
        return [pod for pod in self.pods if pod.alive and pod.uid not in gone]

    def missing(self, settings: Settings) -> int:
        """How many Pods are to be created; below zero: how many are too many."""
        target = min(max(self.pool.min_workers, self.wanted), self.pool.max_workers)
        return target - len(self.alive(settings))


def plan_pool(state: PoolState, settings: Settings) -> Plan[PoolAction]:
    """Plan a pool's Pods: min(max(minWorkers, wanted), maxWorkers) of them.

    What is too much leaves by itself when idle; only Pods that do not begin, Pods that are silent
    and Pods that ended are deleted. A Pod that begins on its node stays for the next job.
    """
    pool, now = state.pool, state.now
    ended = [pod for pod in state.pods if pod.ended and not pod.deleting]
    alive, missing = state.alive(settings), state.missing(settings)
    actions: list[PoolAction] = [DeletePod(pod.uid) for pod in [*ended, *state.stale(settings)]]
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
    heard = state.heard
    silent = [
        max(pod.started, state.up_since) + settings.contact_seconds
        for pod in alive
        if pod.started and pod.uid not in heard
    ]
    return min(silent, default=0.0)
