"""A Job's or MapJob's reconcile: observe, plan, act, tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from shoal.dispatch import JobView
from shoal.errors import LedgerTampered, StorageError
from shoal.ledger import Terminal

from . import names
from .buckets import BucketProblem
from .cache import CustomResource
from .context import Context
from .deployments import make_deployment
from .direct import plan_direct
from .jobbucket import JobBucket
from .jobsight import JobSight
from .jobspec import dispatch_spec
from .jobtelling import JobTeller, Tell
from .observe import seconds
from .plan import (
    AttachJob,
    EnsureDeployment,
    FinishJob,
    GiveUp,
    JobState,
    SetParallelism,
    SetSuspended,
    earliest,
    plan_job,
)
from .poolkeeping import PoolKeeper
from .reasons import Reason
from .resolve import FOREVER, JobPlace, Problem, Resolution, Storage
from .runs import Run
from .status import Outcome, outcome_of
from .statuswriting import StatusWriter

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""How often a bucket or a Secret that is missing is looked at again."""
CLOSING_SECONDS = 15.0
"""How long the ledger's last entry may take before the status says the end without it."""


class JobKeeper:
    """Reconciles Jobs and MapJobs."""

    def __init__(
        self,
        context: Context,
        pools: PoolKeeper,
        writer: StatusWriter,
        *,
        on_pool: Callable[[str, str], None],
        on_deployment: Callable[[str, str], None],
        on_again: Callable[[str], None],
        tell: Tell,
    ) -> None:
        """`on_pool(owner kind, owner uid)` says that a pool's demand changed;
        `on_deployment(namespace, name)` that a job waits for an environment."""
        self._context = context
        self._pools = pools
        self._writer = writer
        self._on_pool = on_pool
        self._on_deployment = on_deployment
        self._on_again = on_again
        self._sight = JobSight(context, pools)
        self._teller = JobTeller(context, self._sight, writer, tell=tell)
        self.runs: dict[str, Run] = {}
        self.finished = 0

    def expect(self, uid: str, *, fresh: bool) -> None:
        """A job was seen: `fresh` if its creation was."""
        if uid not in self.runs:
            self.runs[uid] = Run(accepted=time.time(), fresh=fresh)

    def storages(self) -> set[Storage]:
        """The buckets that unfinished jobs use."""
        found = {run.resolution.storage for run in self.runs.values() if run.resolution}
        return {storage for storage in found if storage is not None}

    def lost_pod(self, uid: str, pod: str) -> None:
        """A Pod of a direct job vanished before it ended."""
        run = self.runs.get(uid)
        if run is not None:
            run.lost_pods += pod not in run.paused_pods
            run.paused_pods.discard(pod)

    async def reconcile(self, uid: str) -> float:
        """Bring one job forward; return when to look again."""
        job = self._context.cache.get(uid)
        if job is None:
            self._forget(uid)
            return 0.0
        if job.finished or job.deleting:
            await self._close(job)
            return 0.0
        if uid not in self.runs:
            self.expect(uid, fresh=False)
        run = self.runs[uid]
        if run.resolution is None:
            run.suspended = job.says("Suspended")
            if job.status.get("startTime"):
                run.accepted = seconds(job.status["startTime"])  # an operator before us took it
        if run.suspended != job.suspended:
            self._pause(job, run)
        resolution = self._sight.resolution(job, run)
        wake = await self._act(job, run, resolution)
        due, ended = await self._teller.status(job, run)
        if ended:
            self.finished += 1
            await self._close(self._context.cache.get(job.uid) or job)
        else:
            self._demand_changed(run, resolution)
        return earliest(wake, due)

    # acting

    async def _act(self, job: CustomResource, run: Run, resolution: Resolution) -> float:
        problem = self._sight.note_problem(job, run, resolution)
        view = self._sight.view(job, run)
        if view is not None:
            self._fenced(job, run, view)
        crews = self._sight.crews(job, run, resolution, view)
        state = JobState(
            job=job,
            resolution=resolution,
            untouched=run.fresh,
            attached=run.attached,
            ended=(outcome_of(view) or run.outcome or run.finishing) is not None,
            parallelism=run.parallelism,
            held=run.held,
            problem=problem,
            problem_since=run.problem_since,
            crews=crews,
            accepted=run.accepted,
            now=time.time(),
        )
        plan = plan_job(state)
        wake = plan.wake_at
        dispatcher = self._context.dispatcher
        for action in plan.actions:
            match action:
                case EnsureDeployment(name, spec):
                    await make_deployment(self._context, job.namespace, name, spec)
                    self._on_again(job.uid)
                    return wake
                case AttachJob():
                    wake = earliest(wake, await self._attach(job, run, resolution))
                case SetParallelism(workers=count):
                    dispatcher.set_parallelism(job.uid, count)
                    run.parallelism = count
                    self._demand(resolution)
                case SetSuspended(suspended):
                    dispatcher.set_suspended(job.uid, suspended)
                    run.held = suspended
                    self._demand(resolution)
                case GiveUp(size, message):
                    dispatcher.give_up(job.uid, size, message)
                case FinishJob(reason, message):
                    self._finish(run, job, reason, message)
        if run.finishing is not None and run.outcome is None and run.attached:
            wake = earliest(wake, self._hurry(run, view))
        if problem is not None and problem.reason is Reason.ENVIRONMENT_BUILDING:
            self._on_deployment(job.namespace, resolution.deployment)
        if not state.ended and (problem is None or job.suspended):
            wake = earliest(wake, await self._keep_private(job, run, resolution, view))
        return wake

    def _pause(self, job: CustomResource, run: Run) -> None:
        """The spec says that the job pauses, or goes on: then all its clocks begin anew."""
        run.suspended = job.suspended
        if not job.suspended:
            run.accepted = time.time()
            run.problem = None
        self._teller.pause(job)

    async def _attach(self, job: CustomResource, run: Run, resolution: Resolution) -> float:
        storage, pool = resolution.storage, resolution.pool
        if storage is None or pool is None:
            return 0.0
        cluster = self._context.settings.cluster_id
        ledger = job.status.get("ledger") or {}
        length = int(ledger.get("length") or 0)
        try:
            bucket = await self._context.buckets.open(storage)
            place = JobPlace.of(storage, cluster, job.namespace, resolution.job_id)
            allowed = [f"{place.job}/"]
            if resolution.code:
                allowed += [place.code(part["sha256"]) for part in resolution.code["parts"]]
            await self._context.dispatcher.attach(
                dispatch_spec(job, resolution, cluster),
                JobBucket(self._context.buckets, storage, bucket, *allowed),
                pool.key,
                fresh=run.fresh,
                length=length,
                digest=str(ledger.get("digest") or ""),
                live=self._live(resolution),
                sized=lambda size: resolution.sized(size).key,
            )
        except BucketProblem as error:
            return self._hold(job, run, error.problem, started=length > 0)
        except LedgerTampered as error:
            if not await self._context.claims.look(job.namespace):
                self._context.cache.drop(job.uid)  # another release serves it now
                self._on_again(job.uid)
                return 0.0
            reason = Reason.LEDGER_TAMPERED if length else Reason.ID_IN_USE
            run.outcome = Outcome("Failed", reason, str(error))
            return 0.0
        except StorageError as error:
            self._context.buckets.forget(storage)
            patience = self._context.settings.missing_seconds
            problem = Problem(Reason.STORAGE_UNAVAILABLE, str(error), patience)
            return self._hold(job, run, problem, started=length > 0)
        run.attached, run.refusal = True, None
        run.parallelism, run.held = resolution.parallelism, job.suspended
        self._demand(resolution)
        self._on_again(job.uid)
        return 0.0

    def _live(self, resolution: Resolution) -> list[str]:
        """The Pods that may hold tasks which a dispatcher before this one handed out."""
        cache = self._context.cache
        found = [cache.pods(pool.namespace, pool.hash) for pool in resolution.pools]
        return [pod.uid for pods in found for pod in pods if pod.alive]

    def _hold(self, job: CustomResource, run: Run, problem: Problem, *, started: bool) -> float:
        """Keep what the bucket said; a job that has results waits for it until its deadline."""
        if started and problem.patience:
            problem = replace(problem, patience=FOREVER)
        run.refusal = problem
        if not problem.patience:
            self._on_again(job.uid)
        return time.time() + RETRY_SECONDS

    def _finish(self, run: Run, job: CustomResource, reason: Reason, message: str) -> None:
        outcome = Outcome(_phase_of(reason), reason, message)
        if run.attached:
            run.finishing = (reason, message, time.time())
            terminal = Terminal(outcome.phase.lower(), str(reason), message)
            self._context.dispatcher.finish(job.uid, terminal)
        else:
            run.outcome = outcome

    def _hurry(self, run: Run, view: JobView | None) -> float:
        """End without the ledger's last entry when the bucket does not take it."""
        if run.finishing is None or (view is not None and view.terminal is not None):
            return 0.0
        reason, message, since = run.finishing
        if time.time() < since + CLOSING_SECONDS:
            return since + CLOSING_SECONDS
        run.outcome = Outcome(_phase_of(reason), reason, message)
        return 0.0

    def _fenced(self, job: CustomResource, run: Run, view: JobView) -> None:
        """Somebody else wrote this ledger: if we are the operator still, read what is there."""
        if view.problem is None or view.problem[0] != Reason.ID_IN_USE:
            return
        self._context.dispatcher.detach(job.uid)
        run.attached, run.fresh = False, False
        if not self._context.lease.held:
            raise RuntimeError(f"{job.full_name}: {view.problem[1]}")

    async def _keep_private(
        self, job: CustomResource, run: Run, resolution: Resolution, view: JobView | None
    ) -> float:
        """Keep the Pods that are this job's own."""
        pool = resolution.pool
        if pool is None or pool.owner_kind == names.DEPLOYMENT:
            return 0.0
        if resolution.direct:
            return await self._keep_direct(job, run, resolution)
        if not run.attached:
            return 0.0
        sizes = set(view.sizes if view is not None else ())
        there = {pod.pool for pod in self._context.cache.pods_of(job.uid)}
        sizes |= {n for n, one in enumerate(resolution.pools, start=1) if one.hash in there}
        return earliest(*[await self._pools.keep(one) for one in resolution.in_use(sizes)])

    async def _keep_direct(self, job: CustomResource, run: Run, resolution: Resolution) -> float:
        pods = self._context.cache.pods_of(job.uid)
        counted = [pod for pod in pods if pod.uid not in run.paused_pods]
        plan = plan_direct(job, counted, run.lost_pods, time.time())
        run.outcome = plan.outcome or run.outcome
        for uid in plan.delete:
            run.paused_pods.add(uid)
            await self._pools.delete(uid)
        if not plan.create:
            return plan.wake_at
        pool = resolution.sized(plan.create)
        if time.time() >= self._pools.retry_at(pool):
            await self._pools.create_direct(
                pool, list(job.spec["command"]), seconds=job.spec.get("taskTimeoutSeconds")
            )
        return self._pools.retry_at(pool)

    # ending

    async def _close(self, job: CustomResource) -> None:
        """Let go of a finished job, and of the Pods that were its alone."""
        run = self.runs.pop(job.uid, None)
        if run is not None and run.attached:
            self._context.dispatcher.detach(job.uid)
        resolution = run.resolution if run is not None else None
        if resolution is not None:
            self._demand(resolution)
        for pod in self._context.cache.pods_of(job.uid):
            keep_for_logs = pod.ended and _is_direct(job, resolution)
            if not keep_for_logs:
                await self._pools.delete(pod.uid)
        self._pools.forget(job.uid)

    def _detach(self, uid: str, run: Run) -> None:
        if run.attached:
            run.attached = False
            self._context.dispatcher.detach(uid)

    def _forget(self, uid: str) -> None:
        run = self.runs.pop(uid, None)
        self._writer.forget(uid)
        self._pools.forget(uid)
        if run is None:
            return
        self._detach(uid, run)
        if run.resolution is not None:
            self._demand(run.resolution)

    def _demand_changed(self, run: Run, resolution: Resolution) -> None:
        """Tell the owner of the pools when workers came or went, or larger ones are wanted."""
        there = sum(crew.connected for crew in run.crews)
        demand = (there, *((crew.size, crew.wanted) for crew in run.crews if crew.size > 1))
        if demand != (run.demand or (0,)):
            run.demand = demand
            self._demand(resolution)

    def _demand(self, resolution: Resolution) -> None:
        pool = resolution.pool
        if pool is not None and pool.owner_kind == names.DEPLOYMENT:
            self._on_pool(pool.owner_kind, pool.owner_uid)


def _phase_of(reason: Reason) -> str:
    return "Cancelled" if reason is Reason.CANCELLED else "Failed"


def _is_direct(job: CustomResource, resolution: Resolution | None) -> bool:
    if resolution is not None:
        return resolution.direct
    return bool(job.spec.get("command")) and "storage" not in job.status
