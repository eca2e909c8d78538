"""A map's progress bar (tqdm), in terminals and notebooks; nothing where nobody looks.

SHOAL_PROGRESS=0 turns it off, SHOAL_PROGRESS=1 on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shoal.machinery import Accepted, Event, Observed, Run

TROUBLES = (("WorkersReady", "False"), ("WorkersMissing", "True"))
"""Conditions whose reason the bar shows."""


@contextmanager
def bar(run: Run) -> Iterator[ProgressBar | None]:
    """Show a bar while the block runs, fed by `observe`; None where there is none to show."""
    if not is_wanted():
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=run.total, desc=run.full_name, unit="task", file=sys.stderr) as shown:
        yield ProgressBar(shown)


class ProgressBar:
    """Counts finished tasks, and says what is waited for as long as nothing runs."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._failed = 0
        self._status: Mapping[str, Any] = {}

    def observe(self, event: Event) -> None:
        """Take an event of the run."""
        if isinstance(event, Accepted):
            records = event.entry.records
            self._failed += sum(record.state != "SUCCEEDED" for record in records)
            self._shown.update(len(records))
        elif isinstance(event, Observed):
            self._status = event.status
        self._shown.set_postfix_str(", ".join(self._says()), refresh=True)

    def _troubles(self) -> Iterator[str]:
        for condition in self._status.get("conditions", ()):
            if (condition["type"], condition["status"]) in TROUBLES:
                yield condition["reason"]

    def _says(self) -> Iterator[str]:
        yield from dict.fromkeys(self._troubles())
        workers = self._status.get("workers") or {}
        if "ready" in workers:
            yield f"{workers['ready']} workers"
        if self._failed:
            yield f"{self._failed} failed"


def is_wanted() -> bool:
    """Tell whether somebody looks: a terminal, or a notebook."""
    said = os.environ.get("SHOAL_PROGRESS")
    if said is not None:
        return said not in ("0", "no", "false", "")
    if "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel"):
        return True
    return sys.stderr is not None and sys.stderr.isatty()
