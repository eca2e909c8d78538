"""A Job's or MapJob's reconcile: observe, plan, act, write the status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
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
from .jobspec import dispatch_spec
from .observe import seconds
from .plan import (
    AttachJob,
    DetachJob,
    EnsureDeployment,
    FinishJob,
    JobState,
    SetParallelism,
    earliest,
    plan_job,
)
from .poolkeeping import PoolKeeper
from .pools import Pool
from .reasons import Reason
from .resolve import JobPlace, Problem, Resolution, Storage, resolve
from .runs import Run
from .status import JobFacts, Outcome, job_status, outcome_of
from .statuswriting import StatusWriter
from .trouble import Trouble

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""How often a bucket or a Secret that is missing is looked at again."""
CLOSING_SECONDS = 15.0
"""How long the ledger's last entry may take before the status says the end without it."""
FOREVER = 1e9


class JobKeeper:
    """Reconciles Jobs and MapJobs."""

    def __init__(
        self,
        context: Context,
        pools: PoolKeeper,
        writer: StatusWriter,
        *,
        on_pool: Callable[[str, str], None],
        on_again: Callable[[str], None],
        tell: Callable[[CustomResource, Reason, str], None],
    ) -> None:
        """`on_pool(owner kind, owner uid)` says that a pool's demand changed."""
        self._context = context
        self._pools = pools
        self._writer = writer
        self._on_pool = on_pool
        self._on_again = on_again
        self._tell = tell
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

    def lost_pod(self, uid: str) -> None:
        """A Pod of a direct job vanished before it ended."""
        if uid in self.runs:
            self.runs[uid].lost_pods += 1

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
        if run.resolution is None and job.status.get("startTime"):
            run.accepted = seconds(job.status["startTime"])  # an operator before us took it
        resolution = self._resolve(job, run)
        wake = await self._act(job, run, resolution)
        return earliest(wake, await self._tell_status(job, run))

    # acting

    async def _act(self, job: CustomResource, run: Run, resolution: Resolution) -> float:
        trouble, workers = self._workers(resolution)
        problem = self._problem(job, run, resolution)
        view = self._context.dispatcher.job(job.uid) if run.attached else None
        if view is not None:
            self._fenced(job, run, view)
        state = JobState(
            job=job,
            resolution=resolution,
            attached=run.attached,
            ended=self._outcome(run, view) is not None or run.finishing is not None,
            parallelism=run.parallelism,
            problem=problem,
            problem_since=run.problem_since,
            trouble=trouble,
            workers=workers,
            accepted=run.accepted,
            now=time.time(),
        )
        plan = plan_job(state)
        wake = plan.wake_at
        for action in plan.actions:
            match action:
                case EnsureDeployment(name, spec):
                    await make_deployment(self._context, job.namespace, name, spec)
                    self._on_again(job.uid)
                    return wake
                case AttachJob():
                    wake = earliest(wake, await self._attach(job, run, resolution))
                case SetParallelism(workers=count):
                    self._context.dispatcher.set_parallelism(job.uid, count)
                    run.parallelism = count
                    self._demand(resolution)
                case FinishJob(reason, message):
                    self._finish(run, job, reason, message)
                case DetachJob():
                    self._detach(job.uid, run)
        if run.finishing is not None and run.outcome is None and run.attached:
            wake = earliest(wake, self._hurry(run, view))
        if not state.ended and problem is None:
            wake = earliest(wake, await self._keep_private(job, run, resolution))
        return wake

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
                allowed.append(place.code(resolution.code["sha256"]))
            await self._context.dispatcher.attach(
                dispatch_spec(job, resolution, cluster),
                JobBucket(self._context.buckets, storage, bucket, *allowed),
                pool.key,
                fresh=run.fresh and not job.status,
                length=length,
                digest=str(ledger.get("digest") or ""),
                live=self._live(pool),
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
        run.attached, run.problem = True, None
        run.parallelism = resolution.parallelism
        self._demand(resolution)
        self._on_again(job.uid)
        return 0.0

    def _live(self, pool: Pool) -> list[str]:
        """The pool's Pods that may hold tasks which a dispatcher before this one handed out."""
        pods = self._context.cache.pods(pool.namespace, pool.hash)
        return [pod.uid for pod in pods if pod.alive]

    def _hold(self, job: CustomResource, run: Run, problem: Problem, *, started: bool) -> float:
        """Keep a problem; a job that has results already waits for its bucket until its
        deadline."""
        now = time.time()
        if started and problem.patience:
            problem = replace(problem, patience=FOREVER)
        if run.problem is None or run.problem.reason != problem.reason:
            run.problem_since = now
        run.problem = problem
        self._on_again(job.uid) if not problem.patience else None
        return now + RETRY_SECONDS

    def _finish(self, run: Run, job: CustomResource, reason: Reason, message: str) -> None:
        phase = "Cancelled" if reason is Reason.CANCELLED else "Failed"
        if run.attached:
            outcome = "cancelled" if phase == "Cancelled" else "failed"
            run.finishing = (reason, message, time.time())
            self._context.dispatcher.finish(job.uid, Terminal(outcome, str(reason), message))
        else:
            run.outcome = Outcome(phase, reason, message)

    def _hurry(self, run: Run, view: JobView | None) -> float:
        """End without the ledger's last entry when the bucket does not take it."""
        if run.finishing is None or (view is not None and view.terminal is not None):
            return 0.0
        reason, message, since = run.finishing
        if time.time() < since + CLOSING_SECONDS:
            return since + CLOSING_SECONDS
        phase = "Cancelled" if reason is Reason.CANCELLED else "Failed"
        run.outcome = Outcome(phase, reason, message)
        return 0.0

    def _fenced(self, job: CustomResource, run: Run, view: JobView) -> None:
        """Somebody else wrote this ledger: if we are the operator still, read what is there."""
        if view.problem is None or view.problem[0] != Reason.ID_IN_USE:
            return
        self._context.dispatcher.detach(job.uid)
        run.attached, run.fresh = False, False
        if not self._context.lease.held:
            raise RuntimeError(f"{job.full_name}: {view.problem[1]}")

    async def _keep_private(self, job: CustomResource, run: Run, resolution: Resolution) -> float:
        """Keep the Pods that are this job's own."""
        pool = resolution.pool
        if pool is None or pool.owner_kind == names.DEPLOYMENT:
            return 0.0
        if not resolution.direct:
            return await self._pools.keep(pool) if run.attached else 0.0
        pods = self._context.cache.pods(pool.namespace, pool.hash)
        plan = plan_direct(job, pods, run.lost_pods)
        if plan.outcome is not None:
            run.outcome = plan.outcome
        elif plan.create:
            if time.time() < self._pools.retry_at(pool):
                return self._pools.retry_at(pool)
            await self._pools.create_direct(pool, list(job.spec["command"]))
            return self._pools.retry_at(pool)
        return 0.0

    # observing

    def _resolve(self, job: CustomResource, run: Run) -> Resolution:
        cache = self._context.cache

        def find(name: str) -> CustomResource | None:
            found = cache.named(names.DEPLOYMENT, job.namespace, name)
            return found if found is not None and not found.deleting else None

        known = run.resolution
        deployment = find(known.deployment) if known and known.deployment else None
        mark = (
            job.generation,
            deployment.uid if deployment else None,
            deployment.generation if deployment else None,
        )
        if known is None or run.resolved_for != mark:
            run.resolution = known = resolve(job, find, self._context.settings)
            deployment = find(known.deployment) if known.deployment else None
            run.resolved_for = (
                job.generation,
                deployment.uid if deployment else None,
                deployment.generation if deployment else None,
            )
        return known

    def _problem(self, job: CustomResource, run: Run, resolution: Resolution) -> Problem | None:
        problem = resolution.problem
        if problem is None:
            owner = id_owner(self._context.cache.jobs_with_id(job.namespace, resolution.job_id))
            if owner is not None and owner.uid != job.uid:
                problem = Problem(
                    Reason.ID_IN_USE, f"{owner.full_name} of {job.namespace} has this spec.id"
                )
        if problem is None:
            return run.problem
        if run.problem is None or run.problem.reason != problem.reason:
            run.problem, run.problem_since = problem, time.time()
        return problem

    def _workers(self, resolution: Resolution) -> tuple[Trouble | None, int]:
        pool = resolution.pool
        if pool is None:
            return None, 0
        if resolution.direct:
            pods = self._context.cache.pods(pool.namespace, pool.hash)
            running = sum(pod.alive and pod.started > 0 for pod in pods)
            return (None if running else self._pools.trouble(pool)), running
        return self._pools.trouble(pool), len(self._pools.view(pool).connected)

    def _outcome(self, run: Run, view: JobView | None) -> Outcome | None:
        return outcome_of(view) or run.outcome

    # telling

    async def _tell_status(self, job: CustomResource, run: Run) -> float:
        resolution = run.resolution
        known = self._context.cache.get(job.uid)
        if known is None or resolution is None or known.finished:
            return 0.0
        job = known
        view = self._context.dispatcher.job(job.uid) if run.attached else None
        trouble, workers = self._workers(resolution)
        outcome = self._outcome(run, view)
        problem = run.problem or resolution.problem
        if problem is None and view is not None and view.problem is not None:
            problem = Problem(
                Reason.of(view.problem[0], Reason.STORAGE_UNAVAILABLE), view.problem[1]
            )
        facts = JobFacts(
            job=job,
            resolution=resolution,
            view=view,
            outcome=outcome,
            problem=problem,
            trouble=trouble,
            workers=workers,
            working=bool(workers if resolution.direct else view is not None and view.claimed),
            accepted=run.accepted,
            now=time.time(),
        )
        wake = await self._writer.write(job, job_status(facts), accepted=run.accepted)
        if outcome is not None and not wake:
            self._say(job, run, outcome.reason, outcome.message)
            self.finished += 1
            await self._close(self._context.cache.get(job.uid) or job)
        elif problem is not None:
            self._say(job, run, problem.reason, problem.message)
        elif trouble is not None and not workers:
            self._say(job, run, trouble.reason, trouble.message)
        if workers != run.ready:
            run.ready = workers
            self._demand(resolution)
        return wake

    def _say(self, job: CustomResource, run: Run, reason: Reason, message: str) -> None:
        if reason not in run.told:
            run.told.add(reason)
            self._tell(job, reason, message)

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

    def _demand(self, resolution: Resolution) -> None:
        pool = resolution.pool
        if pool is not None and pool.owner_kind == names.DEPLOYMENT:
            self._on_pool(pool.owner_kind, pool.owner_uid)


def id_owner(jobs: Iterable[CustomResource]) -> CustomResource | None:
    """Which of the jobs with one id has it: the oldest; of two of one second, who began first."""
    rivals = [
        job
        for job in jobs
        if not any(c.get("reason") == Reason.ID_IN_USE for c in job.status.get("conditions") or ())
    ]
    return min(
        rivals, key=lambda job: (job.created, job.status.get("startTime") or "later"), default=None
    )


def _is_direct(job: CustomResource, resolution: Resolution | None) -> bool:
    if resolution is not None:
        return resolution.direct
    return bool(job.spec.get("command")) and "storage" not in job.status
