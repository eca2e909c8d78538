"""What really happened to a job: runs of tasks, losses of workers, the ledger entry by entry.

Every entry is checked the moment it stands in the bucket, against what the workers really did.
"""

from __future__ import annotations

from collections import Counter

from scenarios import Case, Task

from shoal import ledger
from shoal.dispatch import JobSpec
from shoal.ledger import Charge, Entry
from shoal.worker import records
from shoal.worker.records import Record

SECRET = b"k" * 32
MIB = 1 << 20


class Violated(AssertionError):
    """An invariant does not hold."""


def check(holds: object, message: str) -> None:
    """Fail unless it holds."""
    if not holds:
        raise Violated(message)


class Book:
    """One job's."""

    def __init__(self, spec: JobSpec, case: Case) -> None:
        self.spec, self.case = spec, case
        self.length, self.digest = 0, ledger.GENESIS
        self.digests: list[str] = []
        self.attempts: Counter[int] = Counter()
        self.disruptions: Counter[int] = Counter()
        self.records: dict[int, Record] = {}
        self.terminal: ledger.Terminal | None = None
        # what workers did
        self.runs: Counter[tuple[int, int]] = Counter()
        self.failed: Counter[tuple[int, int]] = Counter()
        self.succeeded: set[bytes] = set()
        self.begun: Counter[int] = Counter()
        # of each loss the tasks that may be charged for it
        self.losses: list[frozenset[int]] = []
        # held by a worker that used up its memory, and nobody knows at which of them
        self.blamed_for_memory: set[int] = set()
        self.given_up: set[int] = set()
        self.cancelled = self.fatal = False

    def task(self, index: int) -> Task:
        """Return what a task does."""
        return self.case.tasks[index % len(self.case.tasks)]

    # the ledger

    def written(self, raw: bytes) -> None:
        """Check an entry that was just created."""
        entry = ledger.open_entry(raw)
        name = f"entry {entry.n}"
        check(entry.n == self.length, f"{name} is created after {self.length} entries")
        check(entry.prev == self.digest, f"{name} does not follow the entry before it")
        check(self.terminal is None, f"{name} follows the terminal record")
        check(ledger.is_authentic(raw, self.spec.context, SECRET), f"{name} has a wrong MAC")
        for charge in entry.charges:
            self._charged(charge, name)
        for record in entry.records:
            self._recorded(record, name)
        if entry.terminal is not None:
            self._ended(entry)
        self.length, self.digest = entry.n + 1, ledger.digest_of(raw)
        self.digests.append(self.digest)

    def _charged(self, charge: Charge, name: str) -> None:
        index = charge.index
        check(index not in self.records, f"{name} charges task {index}, which is over")
        if charge.kind == "attempt":
            self.attempts[index] += 1
            attempt = self.attempts[index]
            check(attempt < self.case.max_attempts, f"{name}: {attempt} attempts charged")
            self._backed(index, attempt, name)
        else:
            self.disruptions[index] += 1
            count = self.disruptions[index]
            check(count <= self.case.max_disruptions, f"{name}: {count} disruptions charged")
            self._lost(index, count, name)

    def _backed(self, index: int, attempt: int, name: str) -> None:
        """A failure must have happened."""
        check(
            self.failed[index, attempt] or index in self.blamed_for_memory,
            f"{name} charges task {index} with attempt {attempt}, which did not fail",
        )

    def _lost(self, index: int, count: int, name: str) -> None:
        losses = sum(index in loss for loss in self.losses)
        check(count <= losses, f"{name}: {count} disruptions of task {index}, {losses} losses")
        charged = sum(self.disruptions.values())
        check(charged <= len(self.losses), f"{name}: more disruptions charged than losses")

    def _recorded(self, record: Record, name: str) -> None:
        index = record.task
        check(index not in self.records, f"{name} holds task {index} for the second time")
        self.records[index] = record._replace(data=bytes(record.data))
        charged = self.attempts[index]
        said = f"{name}: task {index} is {record.state} in attempt {record.attempt}"
        if record.state == records.SUCCEEDED:
            check(bytes(record.data) in self.succeeded, f"{said}: nobody computed that")
            check(record.data == result(index), f"{said}: this is another task's result")
            check(record.attempt <= charged + 1, f"{said}, {charged} charged")
        elif record.state == records.WORKER_LOST:
            count = self.disruptions[index]
            check(count == self.case.max_disruptions, f"{said} after {count} disruptions charged")
            self._lost(index, count + 1, name)
        elif record.attempt == charged and record.state == records.OUT_OF_MEMORY:
            check(record.attempt + 1 in self.given_up, f"{said}, {charged} charged")
        else:
            check(record.attempt == charged + 1, f"{said}, {charged} charged")
            final = record.attempt == self.case.max_attempts
            unpicklable = record.state == records.RESULT_CANNOT_BE_PICKLED
            check(final or unpicklable, f"{said} of {self.case.max_attempts}, but final")
            self._backed(index, record.attempt, name)

    def _ended(self, entry: Entry) -> None:
        self.terminal = end = entry.terminal
        assert end is not None
        all_there = len(self.records) == self.spec.total
        failures = sum(record.state != records.SUCCEEDED for record in self.records.values())
        if end.outcome == "complete":
            check(all_there and not failures, f"complete with {failures} failures")
        elif end.outcome == "cancelled":
            check(self.cancelled, "cancelled, but nobody asked for that")
        elif end.reason == "TaskFailed" and all_there and not self.fatal:
            check(failures, "failed without a failure")
            check(end.message.startswith(f"{failures} of "), f"{failures} failures: {end.message}")
        else:
            check(self.fatal, f"ended as {end} with {len(self.records)} results")

    # at the end

    def right(self) -> None:
        """Check that each task became what it had to."""
        assert self.terminal is not None
        if self.terminal.outcome == "cancelled" or self.fatal:
            return
        for index in range(self.spec.total):
            record, task = self.records[index], self.task(index)
            if record.state in (records.WORKER_LOST, records.OUT_OF_MEMORY):
                continue  # that it was allowed was checked when it was written
            fails = task.then in ("fail", "oom", "short") and task.until >= self.case.max_attempts
            fails = fails or task.then == "unpicklable"
            succeeded = record.state == records.SUCCEEDED
            check(succeeded != fails, f"task {index} ({task}) became {record.state}")
            if not succeeded and task.then == "fail" and index not in self.blamed_for_memory:
                for attempt in range(1, self.case.max_attempts + 1):
                    check(self.runs[index, attempt], f"attempt {attempt} of {index} never ran")


def result(index: int) -> bytes:
    """Return what a task returns."""
    return b"result of %d" % index
