"""``results.jsonl``: the results of a map with JSON arguments, for readers without Python."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from shoal.dispatch.model import JobSpec, JobStore
from shoal.dispatch.patience import Patience
from shoal.errors import StorageError, StorageUnavailable
from shoal.worker import records
from shoal.worker.records import Record

#: For so long, in seconds, a bucket may refuse it; the ledger has the results all the same.
REFUSED_SECONDS = 30.0

_log = logging.getLogger(__name__)


class ResultsFile:
    """One line an item, in their order, written once all are there."""

    def __init__(self, spec: JobSpec) -> None:
        """Start with no line."""
        self.key = f"{spec.prefix}/results.jsonl"
        self.written = False
        self._lines: dict[int, str] = {}

    def add(self, record: Record) -> None:
        """Add a durable outcome."""
        field = "result" if record.state == records.SUCCEEDED else "error"
        line = {"index": record.task, "state": record.state, field: _value(record)}
        self._lines[record.task] = json.dumps(line) + "\n"

    async def write(self, store: JobStore, on_trouble: Callable[[Exception | None], None]) -> None:
        """Write the file; wait for a bucket that is away, give up on one that goes on refusing."""
        data = "".join(line for _, line in sorted(self._lines.items())).encode()
        patience, refused = Patience(on_trouble), 0.0
        while not self.written and refused < REFUSED_SECONDS:
            try:
                await store.put(self.key, data)
                self.written = True
            except (StorageError, OSError) as error:
                _log.warning("%s could not be written: %r", self.key, error)
                pause = await patience.failed(error)
                if not isinstance(error, StorageUnavailable | OSError):
                    refused += pause
        patience.over()


def _value(record: Record) -> Any:
    if record.ref is not None:
        return {"object": record.ref.key}
    text = bytes(record.data).decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:  # a worker wrote what is no JSON
        return text
