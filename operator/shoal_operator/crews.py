"""A job's workers, size by size, and what keeps some of them away. Pure.

With `retryWithMoreMemory` attempt n runs on workers with n times the memory, which are a pool of
their own with troubles of its own: the usual workers may go on while the larger ones find no node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .trouble import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers of one size that a job can use; `since` in seconds since the epoch."""

    size: int = 1
    """How many times the memory of the first attempt they have."""
    memory: str = ""
    wanted: int = 0
    connected: int = 0
    trouble: Trouble | None = None
    since: float = 0.0
    """Since when trouble has left the job without a worker; 0 while it does not."""

    @property
    def missing(self) -> int:
        """How many workers trouble keeps away."""
        return max(0, self.wanted - self.connected) if self.trouble is not None else 0

    def ends_at(self, patience: float) -> float | None:
        """When to wait no more for the first worker, if that time is known."""
        if self.trouble is None or not self.since:
            return None
        if self.trouble.fatal_at is not None:
            return self.trouble.fatal_at
        return self.since + patience


def connected(crews: Iterable[Crew]) -> int:
    """How many workers the job has."""
    return sum(crew.connected for crew in crews)


def timed(crews: Sequence[Crew], before: Mapping[int, float], now: float) -> tuple[Crew, ...]:
    """The crews with `since` set: now, or as it was `before` (by size).

    Larger workers are waited for by themselves; the usual ones only while there are no others.
    """
    there = connected(crews)
    return tuple(
        replace(crew, since=before.get(crew.size) or now)
        if crew.trouble and crew.wanted and not (crew.connected if crew.size > 1 else there)
        else replace(crew, since=0.0)
        for crew in crews
    )


def first_trouble(crews: Iterable[Crew]) -> Trouble | None:
    """The trouble of a job that has no worker at all."""
    return next((crew.trouble for crew in crews if crew.trouble is not None), None)


def missing_workers(crews: Sequence[Crew]) -> Trouble | None:
    """What keeps some workers away from a job that goes on with others, in a sentence."""
    if not connected(crews):
        return None
    for crew in crews:
        if crew.trouble is not None and crew.missing:
            larger = f" with {crew.memory} of memory" if crew.size > 1 else ""
            verb = "is" if crew.missing == 1 else "are"
            count = f"{crew.missing} of {crew.wanted} workers{larger} {verb} missing"
            return Trouble(crew.trouble.reason, f"{count}: {crew.trouble.message}")
    return None
