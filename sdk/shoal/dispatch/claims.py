"""A claim: the tasks of one job that one worker has in its hands."""

from __future__ import annotations

from collections.abc import Collection
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
        progress: when it was handed out, or last reported from.
        asked: when its worker was last asked for what it has not begun.
        missed: how many of the worker's polls in a row did not name the claim.
    """

    id: str
    job: str
    worker: str
    attempt: int
    tasks: list[Range]
    progress: float = 0.0
    asked: float = float("-inf")
    left: dict[int, None] = field(default_factory=dict)
    missed: int = 0

    def __post_init__(self) -> None:
        """Begin with every task left."""
        self.left = dict.fromkeys(ranges.each(self.tasks))

    def wire(self) -> dict[str, object]:
        """Return the claim as a worker gets it."""
        return {"id": self.id, "job": self.job, "attempt": self.attempt, "tasks": self.tasks}


class Claims:
    """The claims of one job, by id and by worker."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_id: dict[str, Claim] = {}
        self._by_worker: dict[str, list[Claim]] = {}

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self._by_id)

    def add(self, claim: Claim) -> None:
        """Note a claim that was handed out."""
        self._by_id[claim.id] = claim
        self._by_worker.setdefault(claim.worker, []).append(claim)

    def remove(self, claim: Claim) -> None:
        """Forget a claim."""
        if self._by_id.pop(claim.id, None) is not None:
            others = self._by_worker[claim.worker]
            others.remove(claim)
            if not others:
                del self._by_worker[claim.worker]

    def drop_if_done(self, claim: Claim) -> None:
        """Forget a claim that nothing is left of."""
        if not claim.left:
            self.remove(claim)

    def clear(self) -> None:
        """Forget all."""
        self._by_id.clear()
        self._by_worker.clear()

    def get(self, claim_id: str) -> Claim | None:
        """Return the claim of that id."""
        return self._by_id.get(claim_id)

    def of(self, worker: str) -> list[Claim]:
        """Return a worker's claims."""
        return self._by_worker.get(worker, [])

    def values(self) -> Collection[Claim]:
        """Return all claims."""
        return self._by_id.values()

    def workers(self) -> Collection[str]:
        """Return the uids of the Pods that hold a claim."""
        return self._by_worker.keys()

    def holds(self, index: int) -> bool:
        """Tell whether some claim has the task."""
        return any(index in claim.left for claim in self._by_id.values())
