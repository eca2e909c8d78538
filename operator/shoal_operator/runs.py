"""What the operator knows of an unfinished job beyond its custom resource.

It lives in memory and is made anew after a restart: nothing in it is needed for correctness.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .reasons import Reason
from .resolve import Problem, Resolution
from .status import Outcome


@dataclass(slots=True)
class Run:
    """What the operator knows of an unfinished job."""

    accepted: float
    fresh: bool
    """No dispatcher can have worked on it before."""
    attached: bool = False
    resolution: Resolution | None = None
    resolved_for: tuple[object, ...] = ()
    parallelism: int = 0
    problem: Problem | None = None
    problem_since: float = 0.0
    outcome: Outcome | None = None
    finishing: tuple[Reason, str, float] | None = None
    told: set[str] = field(default_factory=set)
    lost_pods: int = 0
    ready: int = 0
