"""Tells how a job stands: its status, and an Event for each reason."""

from __future__ import annotations

import time
from collections.abc import Callable

from shoal.dispatch import JobView

from .cache import CustomResource
from .context import Context
from .crews import connected, first_trouble, missing_workers
from .jobsight import JobSight
from .reasons import Reason
from .resolve import Problem
from .runs import Run
from .status import JobFacts, job_status, outcome_of
from .statuswriting import StatusWriter

Tell = Callable[[CustomResource, Reason, str], None]
"""Posts an Event."""


class JobTeller:
    """Writes the statuses and Events of jobs."""

    def __init__(
        self, context: Context, sight: JobSight, writer: StatusWriter, *, tell: Tell
    ) -> None:
        self._context = context
        self._sight = sight
        self._writer = writer
        self._tell = tell

    async def status(self, job: CustomResource, run: Run) -> tuple[float, bool]:
        """Write the status; return when to look again, and whether it tells the job's end now."""
        resolution = run.resolution
        known = self._context.cache.get(job.uid)
        if known is None or resolution is None or known.finished:
            return 0.0, False
        view = self._sight.view(known, run)
        crews = self._sight.crews(known, run, resolution, view)
        facts = JobFacts(
            job=known,
            resolution=resolution,
            view=view,
            outcome=outcome_of(view) or run.outcome,
            problem=self._sight.note_problem(known, run, resolution) or _problem_of(view),
            crews=crews,
            working=bool(connected(crews) if resolution.direct else view and view.claimed),
            accepted=run.accepted,
            now=time.time(),
        )
        wake = await self._writer.write(known, job_status(facts), accepted=run.accepted)
        self._events(known, run, facts, written=not wake)
        return wake, facts.outcome is not None and not wake

    def pause(self, job: CustomResource) -> None:
        """Say that the job was suspended, or goes on."""
        if job.suspended:
            self._tell(job, Reason.SUSPENDED, "spec.suspend is true")
        else:
            self._tell(job, Reason.RESUMED, "spec.suspend is false: it goes on")

    def _events(self, job: CustomResource, run: Run, facts: JobFacts, *, written: bool) -> None:
        missing, trouble = missing_workers(facts.crews), first_trouble(facts.crews)
        if facts.outcome is not None:
            if written:
                self._say(job, run, facts.outcome.reason, facts.outcome.message)
        elif facts.problem is not None:
            self._say(job, run, facts.problem.reason, facts.problem.message)
        elif missing is not None:
            self._say(job, run, missing.reason, missing.message)
        elif trouble is not None and not connected(facts.crews):
            self._say(job, run, trouble.reason, trouble.message)

    def _say(self, job: CustomResource, run: Run, reason: Reason, message: str) -> None:
        if reason not in run.told:
            run.told.add(reason)
            self._tell(job, reason, message)


def _problem_of(view: JobView | None) -> Problem | None:
    """What holds the job up in the dispatcher."""
    if view is None or view.problem is None:
        return None
    return Problem(Reason.of(view.problem[0], Reason.STORAGE_UNAVAILABLE), view.problem[1])
