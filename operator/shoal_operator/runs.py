"""What the operator knows of an unfinished job beyond its custom resource.

It lives in memory and is made anew after a restart: nothing in it is needed for correctness.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .crews import Crew
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
    met: str | None = None
    """Uid of the build that had failed already when the job came, if one had; None: not looked."""
    parallelism: int = 0
    """As the dispatcher was told."""
    held: bool = False
    """Whether the dispatcher was told to hand out nothing."""
    suspended: bool = False
    """As the spec said when it was last looked at."""
    refusal: Problem | None = None
    """What its bucket said when it was last tried, if that was no good."""
    problem: Problem | None = None
    """What stood in its way when that was last looked at."""
    problem_since: float = 0.0
    outcome: Outcome | None = None
    finishing: tuple[Reason, str, float] | None = None
    told: set[str] = field(default_factory=set)
    lost_pods: int = 0
    paused_pods: set[str] = field(default_factory=set)
    """Pods of a direct command that were deleted because it is suspended."""
    crews: tuple[Crew, ...] = ()
    """Its workers when they were last looked at."""
    demand: tuple[object, ...] = ()
    """What the owner of its pools was last told of them."""
