"""Keeps outcomes and output until the dispatcher says that they are durable.

The agent adds; one thread of its own sends. While a report is on its way the next one gathers, so
that small results travel by the hundred under load and at once when there is no load. What gets no
answer is sent again, the same, until it gets one.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple

from . import frames
from .holdings import Holdings
from .inputs import Fatal
from .objects import ObjectError, Objects, Rejected
from .records import ERROR, PYTHON_EXCEPTION, Record, Ref, encode
from .transport import Line, Refused, Unreachable

#: A report holds about this many bytes at the most.
REPORT_SIZE = 512_000
#: A sign of life at least this often, in seconds.
HEARTBEAT = 5.0
#: Output of one task attempt that goes to the bucket, in bytes; the rest is in the Pod's log only.
OUTPUT_SIZE = 10 << 20
#: Output of all tasks that waits for the dispatcher, in bytes; what comes while there is more is
#: in the Pod's log only.
WAITING_SIZE = 16 << 20
#: What a piece of output takes besides its text, in bytes.
_OVERHEAD = 200
_CUT = b"\n[shoal: the rest is in the Pod's log only]\n"
_GAP = b"\n[shoal: the operator took no reports; what is missing here is in the Pod's log only]\n"

_RETRIES = (0.1, 0.3, 1.0, 2.0)

Key = tuple[str, int, int]  # job, task, attempt


class Outcome(NamedTuple):
    """What became of one task; `path` names the file with a large result, if it is one."""

    claim: str
    record: Record
    seconds: float
    path: str


class _Unsent:
    """An outcome on its way, and the job that it is of."""

    def __init__(self, job: str, outcome: Outcome) -> None:
        self.job = job
        self.claim, self.record, self.seconds, self.path = outcome


class Outbox:
    """What is to be reported."""

    def __init__(
        self, line: Line, holdings: Holdings, on_gone: Callable[[list[str]], None], folder: str
    ) -> None:
        """`on_gone` is called with the ids of jobs that are over for the dispatcher.

        `folder` is where large results lie until they are in the bucket; nobody else touches it.
        """
        self._line, self._holdings, self._on_gone = line, holdings, on_gone
        self._folder, self._files = folder, 0
        self._objects = Objects()
        self._changed = threading.Condition()
        self._outcomes: list[_Unsent] = []
        self._batch: list[_Unsent] = []
        self._output: dict[Key, list[bytes]] = {}
        self._printed: dict[Key, int] = {}
        self._waiting = 0
        self._gaps: set[Key] = set()
        self._fatals: list[dict[str, Any]] = []
        self._sending = False

    def add(self, job: str, outcomes: Iterable[Outcome]) -> None:
        """Add outcomes of a job's tasks; the files of large ones move here."""
        with self._changed:
            before = len(self._outcomes)
            for outcome in outcomes:
                one = _Unsent(job, outcome)
                if one.path:
                    one.path = self._keep(one.path)
                self._outcomes.append(one)
                if self._printed:
                    self._printed.pop((job, one.record.task, one.record.attempt), None)
            if len(self._outcomes) > before:
                self._changed.notify_all()

    def _keep(self, path: str) -> str:
        """Move a result's file out of the way of the child's end; return where it is now."""
        self._files += 1
        kept = os.path.join(self._folder, str(self._files))
        os.rename(path, kept)
        return kept

    def add_output(self, job: str, task: int, attempt: int, text: bytes) -> None:
        """Add what a task attempt printed."""
        key = (job, task, attempt)
        with self._changed:
            before = self._printed.get(key, 0)
            self._printed[key] = before + len(text)
            if before >= OUTPUT_SIZE:
                return
            if self._waiting >= WAITING_SIZE:
                if key in self._gaps:
                    return
                self._gaps.add(key)
                text = _GAP
            elif before + len(text) > OUTPUT_SIZE:
                text = text[: OUTPUT_SIZE - before] + _CUT
            self._waiting += len(text) + _OVERHEAD
            self._output.setdefault(key, []).append(text)
            self._changed.notify_all()

    def unacknowledged(self, job: str) -> set[tuple[str, int]]:
        """Return the tasks of a job, as (claim id, task), whose outcomes are here."""
        with self._changed:
            outcomes = self._batch + self._outcomes
            return {(one.claim, one.record.task) for one in outcomes if one.job == job}

    def add_fatal(self, job: str, fatal: Fatal) -> None:
        """Say that a job cannot run anywhere."""
        with self._changed:
            self._fatals.append(
                {
                    "job": job,
                    "reason": fatal.reason,
                    "message": fatal.message,
                    "error": fatal.error,
                }
            )
            self._changed.notify_all()

    def drop(self, job: str) -> None:
        """Forget what belongs to a job that is over, but for claims that came after that."""
        with self._changed:
            outcomes, self._outcomes = self._outcomes, []
            for one in outcomes:
                if one.job != job or self._holdings.holds(one.claim):
                    self._outcomes.append(one)
                elif one.path:
                    os.unlink(one.path)
            for key in [key for key in self._printed if key[0] == job]:
                del self._printed[key]
            for key in [key for key in self._output if key[0] == job]:
                self._waiting -= sum(len(text) + _OVERHEAD for text in self._output.pop(key))
            self._changed.notify_all()

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until everything is acknowledged; return False if it took longer."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._outcomes or self._output or self._fatals or self._sending),
                seconds,
            )

    def run(self) -> None:
        """Send, for ever. The agent runs this in a thread."""
        failures = number = 0
        while True:
            with self._changed:
                self._sending, self._batch = False, []
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._outcomes or self._output or self._fatals, HEARTBEAT
                )
                taken, output, fatal = self._take()
                self._sending, self._batch = bool(taken or output or fatal), taken
            batch = [one for one in map(self._upload, taken) if one is not None]
            number += 1
            report = _report(batch, output, fatal, number)
            while True:
                try:
                    answer = self._line.call("/v1/report", report, timeout=90.0)
                except (Unreachable, Refused):
                    _pause(failures)
                    failures += 1
                    continue
                if answer["later"]:
                    _pause(len(_RETRIES))
                    continue
                break
            failures = 0
            durable: dict[str, list[int]] = {}
            for outcome in batch:
                durable.setdefault(outcome.claim, []).append(outcome.record.task)
            for claim, tasks in durable.items():
                self._holdings.acknowledged(claim, tasks)
            if answer["gone"]:
                self._on_gone(answer["gone"])

    def _take(self) -> tuple[list[_Unsent], dict[Key, list[bytes]], Any]:
        size = count = 0
        for outcome in self._outcomes:
            size += len(outcome.record.data) + 32
            count += 1
            if size >= REPORT_SIZE:
                break
        batch, self._outcomes = self._outcomes[:count], self._outcomes[count:]
        output, self._output = self._output, {}
        self._waiting = 0
        self._gaps.clear()
        fatal = self._fatals.pop(0) if self._fatals else None
        return batch, output, fatal

    def _upload(self, outcome: _Unsent) -> _Unsent | None:
        """Upload a large result; None if its job is over."""
        if not outcome.path:
            return outcome
        assert outcome.record.ref is not None
        failures = 0
        try:
            while (granted := self._ask(outcome.job)) is not None:
                try:
                    self._objects.put(granted["url"], outcome.path)
                except Rejected:
                    raise
                except ObjectError as error:  # the bucket is away: the result outlives that
                    if failures in (0, 10, 100):
                        print(f"shoal worker: a result waits for the bucket: {error}", flush=True)
                    _pause(failures)
                    failures += 1
                    continue
                ref = Ref(granted["key"], outcome.record.ref.sha256, outcome.record.ref.size)
                outcome.record = outcome.record._replace(ref=ref)
                return outcome
            return None
        except Rejected as error:
            text = ["ResultNotUploaded", f"the bucket does not take the result: {error}", ""]
            outcome.record = Record(
                outcome.record.task,
                outcome.record.attempt,
                PYTHON_EXCEPTION,
                ERROR,
                json.dumps(text).encode(),
                memory=outcome.record.memory,
            )
        finally:
            os.unlink(outcome.path)
        return outcome

    def _ask(self, job: str) -> dict[str, Any] | None:
        failures = 0
        while True:
            try:
                answer = self._line.call("/v1/upload", {"job": job})
                return None if answer.get("gone") else answer
            except (Unreachable, Refused):
                _pause(failures)
                failures += 1


def _pause(failures: int) -> None:
    """Wait before another try, longer after each failure."""
    time.sleep(_RETRIES[min(failures, len(_RETRIES) - 1)])


def _report(
    batch: list[_Unsent],
    output: dict[Key, list[bytes]],
    fatal: dict[str, Any] | None,
    number: int,
) -> bytes:
    """Return the report's frame: outcomes by claim, then output by task attempt."""
    groups: dict[tuple[str, str], list[_Unsent]] = {}
    for outcome in batch:
        groups.setdefault((outcome.job, outcome.claim), []).append(outcome)
    header: dict[str, Any] = {"groups": [], "fatal": fatal, "number": number}
    header["output"] = [list(key) for key in output]
    blobs: list[bytes] = []
    for (job, claim), outcomes in groups.items():
        columns, data = encode([one.record for one in outcomes])
        seconds = sum(one.seconds for one in outcomes)
        header["groups"].append(
            {"job": job, "claim": claim, "seconds": seconds, "results": columns}
        )
        blobs.append(data)
    return frames.pack(header, blobs + [b"".join(texts) for texts in output.values()])
