"""What the dispatcher knows of each worker: one session for each Pod."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from shoal.dispatch.model import WorkerIdentity


@dataclass(eq=False)
class Session:
    """A worker that has spoken to this dispatcher.

    Attributes:
        heard: when it last did, on the dispatcher's clock.
        idle_since: when it was last known to hold a claim, or joined.
        waiting: the poll that waits for an answer, or None.
        knows: ids of the jobs whose description it has.
        leaving: it is to exit once it holds nothing.
        told: whether it has told this dispatcher what it holds (only a poll does).
        awaited_claims: what it holds of jobs that are not attached yet, by job.
    """

    identity: WorkerIdentity
    heard: float
    idle_since: float
    waiting: asyncio.Future[dict[str, Any]] | None = None
    knows: set[str] = field(default_factory=set)
    leaving: bool = False
    told: bool = False
    awaited_claims: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def is_waiting(self) -> bool:
        """Whether a poll of it can be answered now."""
        return self.waiting is not None and not self.waiting.done()

    def answer(self, message: dict[str, Any]) -> None:
        """Answer the poll that waits."""
        assert self.waiting is not None
        self.waiting.set_result(message)
        self.waiting = None
