"""One job as its custom resource has it: what is asked for, and the status that was written."""

from __future__ import annotations

from dataclasses import replace

from book import Book
from scenarios import Case

from shoal.dispatch import JobSpec, JobView


class SimulatedJob:
    """One of the jobs that share the workers."""

    def __init__(self, n: int, case: Case, at: float) -> None:
        """Make the n-th job, which is created `at` that time."""
        letter = "jkl"[n]
        self.at = at
        self.spec = JobSpec(
            id=letter * 24,
            uid=f"uid-{letter}",
            name=f"mapjobs.shoal.dev/{letter}",
            context=f"cluster:uid-{letter}",
            prefix=f"c/n/jobs/{letter}",
            kind="map",
            total=case.total,
            parallelism=case.parallelism,
            max_attempts=case.max_attempts,
            max_disruptions=case.max_disruptions,
            inline={"function": {"name": "f"}, "items": []} if case.inline else None,
            backoff=case.backoff,
            more_memory=case.more_memory,
            memory=1 << 30,
            speculation=case.speculation,
        )
        self.id = self.spec.id
        self.book = Book(self.spec, case)
        self.status: tuple[int, str] = (0, "")
        self.suspended = self.cancelled = self.finished = False
        self.parallelism = case.parallelism
        self.untouched = True
        self.longest = 0

    def live_spec(self) -> JobSpec:
        """Return the job as its custom resource says it now."""
        return replace(self.spec, parallelism=self.parallelism, suspended=self.suspended)

    def write_status(self, view: JobView) -> None:
        """The status is written."""
        self.status = (view.ledger_length, view.ledger_digest)
        self.finished = view.terminal is not None
