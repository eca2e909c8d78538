"""What stands around a job: what it resolves to, what is in its way, which workers it has.

Reads the cache and the dispatcher, and notes in the job's `Run` since when things are as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from shoal.dispatch import JobView

from . import names
from .cache import CustomResource
from .context import Context
from .crews import Crew, timed
from .direct import size_of
from .poolkeeping import PoolKeeper
from .reasons import Reason
from .resolve import Problem, Resolution, failed_build, resolve
from .runs import Run


class JobSight:
    """Looks at jobs."""

    def __init__(self, context: Context, pools: PoolKeeper) -> None:
        self._context = context
        self._pools = pools

    def view(self, job: CustomResource, run: Run) -> JobView | None:
        """What the dispatcher knows of the job, if it has it."""
        return self._context.dispatcher.job(job.uid) if run.attached else None

    def resolution(self, job: CustomResource, run: Run) -> Resolution:
        """The job with everything settled, made anew when it or its Deployment changed."""
        cache = self._context.cache

        def find(name: str) -> CustomResource | None:
            found = cache.named(names.DEPLOYMENT, job.namespace, name)
            return found if found is not None and not found.deleting else None

        def mark(resolution: Resolution | None) -> tuple[object, ...]:
            name = resolution.deployment if resolution is not None else ""
            deployment = find(name) if name else None
            needs_build = resolution is not None and resolution.template.environment
            begun = bool(needs_build) and is_begun(job, run)
            if deployment is None:
                return (job.generation, begun)
            built = repr(deployment.status.get("environment"))
            return (job.generation, begun, deployment.uid, deployment.generation, built)

        known = run.resolution
        if known is None or run.resolved_for != mark(known):
            run.resolution = known = self._resolve(job, run, find)
            run.resolved_for = mark(known)
        return known

    def _resolve(
        self, job: CustomResource, run: Run, find: Callable[[str], CustomResource | None]
    ) -> Resolution:
        def made() -> Resolution:
            begun = is_begun(job, run)
            return resolve(job, find, self._context.settings, begun=begun, met=run.met or "")

        found = made()
        if run.met is None:
            run.met = failed_build(find(found.deployment)) if found.deployment else ""
            found = made() if run.met else found
        return found

    def note_problem(self, job: CustomResource, run: Run, resolution: Resolution) -> Problem | None:
        """What stands in the job's way: its spec, its id, or what its bucket said.

        Notes it in `run`, and since when it has been so.
        """
        problem = resolution.problem or self._rivalry(job, resolution) or run.refusal
        if problem is not None and (run.problem is None or run.problem.reason != problem.reason):
            run.problem_since = time.time()
        run.problem = problem
        return problem

    def _rivalry(self, job: CustomResource, resolution: Resolution) -> Problem | None:
        owner = id_owner(self._context.cache.jobs_with_id(job.namespace, resolution.job_id))
        if owner is None or owner.uid == job.uid:
            return None
        return Problem(Reason.ID_IN_USE, f"{owner.full_name} of {job.namespace} has this spec.id")

    def crews(
        self, job: CustomResource, run: Run, resolution: Resolution, view: JobView | None
    ) -> tuple[Crew, ...]:
        """The job's workers by size, the usual ones first; none while it has no pool or pauses."""
        if not resolution.pools or job.suspended:
            found = []
        elif resolution.direct:
            found = [self._direct_crew(job, resolution)]
        else:
            found = self._crews(resolution, view)
        run.crews = timed(found, {crew.size: crew.since for crew in run.crews}, time.time())
        return run.crews

    def _direct_crew(self, job: CustomResource, resolution: Resolution) -> Crew:
        pods = self._context.cache.pods_of(job.uid)
        size = size_of(job, pods)
        running = sum(pod.alive and pod.started > 0 for pod in pods)
        pool = resolution.sized(size)
        return Crew(
            size=size,
            memory=pool.template.memory,
            wanted=1,
            connected=running,
            trouble=None if running else self._pools.trouble(pool),
        )

    def _crews(self, resolution: Resolution, view: JobView | None) -> list[Crew]:
        usual = view.wanted_workers if view is not None else resolution.parallelism
        larger = []
        for size in view.sizes if view is not None else ():
            crew = self._crew(resolution, size, usual)
            larger.append(crew)
            usual -= crew.wanted
        return [self._crew(resolution, 1, max(0, usual)), *larger]

    def _crew(self, resolution: Resolution, size: int, most: int) -> Crew:
        pool = resolution.sized(size)
        view = self._pools.view(pool)
        return Crew(
            size=size,
            memory=pool.template.memory,
            wanted=min(most, pool.max_workers, view.wanted if size > 1 else most),
            connected=len(view.connected),
            trouble=self._pools.trouble(pool),
        )


def is_begun(job: CustomResource, run: Run) -> bool:
    """Whether workers may have a job's tasks: it does not wait for its environment again."""
    return run.attached or bool((job.status.get("ledger") or {}).get("length"))


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
