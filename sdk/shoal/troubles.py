"""Says, while a caller waits, why nothing runs: no node, no image, no bucket.

Such a thing may heal, so it is no error yet; it goes to the log `shoal` as a warning, which without
further ado appears on stderr, each once.
"""

from __future__ import annotations

import logging

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
        if not isinstance(event, Observed) or event.status.get("phase") not in (None, "Pending"):
            return
        for condition in event.status.get("conditions", ()):
            about_workers = condition["type"] == "WorkersReady" and condition["status"] == "False"
            reason = condition["reason"]
            if about_workers and reason not in PLAIN and reason not in self._told:
                self._told.add(reason)
                _log.warning("%s waits (%s): %s", self._run.full_name, reason, condition["message"])
