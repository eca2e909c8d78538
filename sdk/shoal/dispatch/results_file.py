"""``results.jsonl``: the results of a map with JSON arguments, for readers without Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from shoal.dispatch.chain import BACKOFFS
from shoal.dispatch.model import JobSpec, JobStore
from shoal.errors import StorageError, StorageUnavailable
from shoal.worker import records
from shoal.worker.records import Record

#: How often a bucket may refuse it; the ledger has the results all the same.
REFUSALS = 4


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
        """Write the file; wait for a bucket that is away, give up where it refuses."""
        data = "".join(line for _, line in sorted(self._lines.items())).encode()
        failures = refusals = 0
        while refusals < REFUSALS and not self.written:
            try:
                await store.put(self.key, data)
                self.written = True
            except (StorageError, OSError) as error:
                refusals += not isinstance(error, StorageUnavailable | OSError)
                on_trouble(error)
                await asyncio.sleep(BACKOFFS[min(failures, len(BACKOFFS) - 1)])
                failures += 1
        if failures:
            on_trouble(None)

    async def find(self, store: JobStore) -> None:
        """Look whether a dispatcher before this one has written it."""
        self.written = await store.get(self.key) is not None


def _value(record: Record) -> Any:
    if record.ref is not None:
        return {"object": record.ref.key}
    text = bytes(record.data).decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:  # a worker wrote what is no JSON
        return text
