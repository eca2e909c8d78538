"""A claim: the tasks of one job that one worker has in its hands."""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.worker import ranges
from shoal.worker.ranges import Range


@dataclass
class Claim:
    """Some tasks of a job, handed to a worker, all in the same attempt.

    Attributes:
        id: unique over all dispatchers that ever served the job.
        worker: the uid of the worker's Pod.
        left: indexes that were not reported yet, in the order in which the worker runs them.
        missed: how many of the worker's polls in a row did not name the claim.
    """

    id: str
    job: str
    worker: str
    attempt: int
    tasks: list[Range]
    left: dict[int, None] = field(default_factory=dict)
    missed: int = 0

    def __post_init__(self) -> None:
        """Begin with every task left."""
        self.left = dict.fromkeys(ranges.each(self.tasks))

    def wire(self) -> dict[str, object]:
        """Return the claim as a worker gets it."""
        return {"id": self.id, "job": self.job, "attempt": self.attempt, "tasks": self.tasks}
