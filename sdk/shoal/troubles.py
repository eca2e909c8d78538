"""Says, while a caller waits, why nothing runs, or less than could: no node, no image, no bucket.

Such a thing may heal, so it is no error yet; it goes to the log `shoal` as a warning, which without
further ado appears on stderr, each once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shoal.machinery import Event, Observed, Run

_log = logging.getLogger("shoal")

PLAIN = frozenset({"Starting", "Ready", "Pending", "Complete", "Running", "Waiting"})
"""Reasons that are no trouble: workers that are on their way."""


class Troubles:
    """What one run was in trouble for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._told: set[str] = set()

    def observe(self, event: Event) -> None:
        """Take an event of the run."""
        if not isinstance(event, Observed):
            return
        phase = event.status.get("phase")
        if phase == "Suspended":
            self._tell("Suspended", "is suspended: its handle's resume() lets it go on")
            return
        self._told.discard("Suspended")  # a second pause is news
        for condition in event.status.get("conditions", ()):
            reason, why = condition["reason"], condition["message"]
            if reason in PLAIN:
                continue
            if _holds(condition, "WorkersReady", "False") and phase in (None, "Pending"):
                self._tell(reason, f"waits ({reason}): {why}")
            elif _holds(condition, "WorkersMissing", "True"):
                self._tell(reason, f"has fewer workers than it could use ({reason}): {why}")

    def _tell(self, reason: str, words: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            _log.warning("%s %s", self._run.full_name, words)


def _holds(condition: Mapping[str, str], type_: str, status: str) -> bool:
    return condition["type"] == type_ and condition["status"] == status
