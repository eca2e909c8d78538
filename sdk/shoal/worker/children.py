"""The agent's view of child processes: their pipes, what they were fed, and their end.

A `Child` knows, in order, the tasks that it was fed and has not answered: the first of them is the
one that runs, so that a child's death names its task. One child is always kept in stock, forked
from the zygote and waiting, so that a job's first task does not wait for a process.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import frames, output, records
from .child import BEGUN, NOT_LOADED, RESULT
from .inputs import JobInputs, Piece
from .outbox import Outcome
from .outcomes import ENCODINGS, IN_FILE, STATES
from .output import Label
from .records import Record, Ref
from .turns import Turns

#: How much is read from a pipe at once, in bytes: all that a pipe holds.
READ_SIZE = 1 << 20
#: How many such pieces are taken in one turn.
PIECES = 8
#: How much of a task's output is kept for the message about its end, in bytes.
TAIL_SIZE = 4_000
#: How long a child may live on after it closed the pipe for results, in seconds.
CLOSED_SECONDS = 1.0


class Fed(NamedTuple):
    """One task in a child's hands."""

    claim: str
    attempt: int
    task: int
    item: Any


class NotLoaded(Exception):
    """The child could not load the function: (type, message, traceback)."""


class Child:
    """A forked process with its three pipes; `job` is empty while it is in stock."""

    def __init__(self) -> None:
        """Open the pipes; the zygote is to be asked for the process."""
        tasks_out, self.tasks = os.pipe()
        self.results, results_in = os.pipe()
        self.output, output_in = os.pipe()
        self.turns = Turns()
        self._theirs = [tasks_out, results_in, output_in]
        for descriptor in (self.tasks, self.results, self.output):
            os.set_blocking(descriptor, False)
        self.pid = 0
        self.job = ""
        self.status: int | None = None
        self.memory = 0
        self.fed: deque[Fed] = deque()
        self._time_over = self._closed_over = float("inf")
        self.output_ended = self.results_ended = False
        self._inputs: JobInputs
        self._mark = output.draw()
        self._splitter = output.Splitter(self._mark)
        self._tail: tuple[Label | None, bytes] = None, b""
        self._late: Fed | None = None
        self._fault = ""
        self._unsent = bytearray()
        self._received = bytearray()

    @property
    def theirs(self) -> list[int]:
        """The ends that the process gets (`child.Ends`)."""
        return [*self._theirs, self.turns.theirs]

    def close_theirs(self) -> None:
        """Close what only the process needs, once it was handed over."""
        for descriptor in self._theirs:
            os.close(descriptor)

    def open(self, inputs: JobInputs) -> None:
        """Give the child its job.

        Raises:
            OSError: the job's folder cannot be made.
        """
        message = inputs.opening(self._mark.decode())
        self.job, self._inputs = inputs.id, inputs
        self._send(message)

    def feed(self, piece: Piece) -> None:
        """Give the child tasks."""
        self.fed.extend(
            Fed(piece.claim, piece.attempt, task, item)
            for task, item in zip(piece.tasks, piece.items)
        )
        self.turns.give(len(piece.tasks))
        lengths = [len(item) for item in piece.items]
        header = {"tasks": piece.tasks, "attempt": piece.attempt, "lengths": lengths}
        self._send(frames.pack(header, [b"".join(piece.items)]))

    def revoke(self) -> None:
        """Take back the tasks that have not begun; their bytes still go to the child."""
        for _ in range(self.turns.take_back()):
            self.fed.pop()

    def _send(self, message: bytes) -> None:
        self._unsent += struct.pack("!I", len(message)) + message
        self.write()

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for room in the pipe."""
        return bool(self._unsent)

    def write(self) -> None:
        """Write as much as the pipe takes."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self.tasks, self._unsent[:READ_SIZE])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent.clear()  # it is dead: `ended` tells more

    def read(self) -> list[tuple[Label | None, bytes]]:
        """Read what the child wrote since; return what its tasks printed.

        Results come first: a task's output was in its pipe before its outcome was, and a pipe is
        emptied by one read, so that no outcome is known before all of its task's output.
        """
        piece, ended = _read(self.results)
        self._received += piece
        if ended and not self.results_ended:
            self.results_ended = True
            self._closed_over = time.monotonic() + CLOSED_SECONDS
        text, self.output_ended = _read(self.output)
        printed = self._splitter.split(text)
        if self.status is not None and (rest := self._splitter.rest()):
            printed.append((self._splitter.label, rest))
        if printed and printed[0][0] is None and self.fed:  # of the import before the first task
            first = Label(self.fed[0].task, self.fed[0].attempt)
            printed = [(label or first, text) for label, text in printed]
        for label, text in printed:
            before = self._tail[1] if self._tail[0] == label else b""
            self._tail = label, (before + text[-TAIL_SIZE:])[-TAIL_SIZE:]
        return printed

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcomes that were read.

        Raises:
            NotLoaded: it could not load the function.
        """
        start = 0
        try:
            while len(self._received) - start >= RESULT.size and not self._fault:
                head = RESULT.unpack_from(self._received, start)
                if not self._is_expected(head):
                    self._condemn("the process wrote into the pipe for results")
                    break
                stop = start + RESULT.size + head[-1]
                if stop > len(self._received):
                    break
                data = bytes(self._received[start + RESULT.size : stop])
                start = stop
                if head[0] == NOT_LOADED:
                    raise NotLoaded(*_error_of(head[3], data))
                if head[2] == BEGUN:
                    self._time_over = head[5] + (self._inputs.timeout or float("inf"))
                else:
                    yield self._outcome(head, data)
        finally:
            del self._received[:start]

    def _is_expected(self, head: tuple[Any, ...]) -> bool:
        """Tell whether the child can have written this: a task may write anywhere."""
        if head[0] == NOT_LOADED:
            return True
        known = head[2] < len(STATES) or head[2] == BEGUN
        return known and bool(self.fed) and self.fed[0][2] == head[0]

    def _outcome(self, head: tuple[Any, ...], data: bytes) -> Outcome:
        task, attempt, state, encoding, memory, seconds, _ = head
        fed = self.fed.popleft()
        self._time_over = float("inf")
        path, ref = "", None
        if encoding & IN_FILE:
            path, digest = json.loads(data)
            ref, data = Ref("", digest, os.path.getsize(path)), b""
        elif self._inputs.kind == "command":
            about = json.loads(data)
            if "returnCode" in about:
                data = json.dumps({"lastLines": self._last_lines(fed), **about}).encode()
        kind = ENCODINGS[encoding & ~IN_FILE]
        record = Record(task, attempt, STATES[state], kind, data, ref, memory)
        return Outcome(fed.claim, record, seconds, path)

    @property
    def deadline(self) -> float:
        """When the child is to be killed if nothing else happens (`monotonic`)."""
        return min(self._time_over, self._closed_over)

    def look_at_deadline(self) -> None:
        """Kill the child if the time of its task is over, or if it cannot answer any more."""
        now = time.monotonic()
        if now >= self._closed_over:
            self._closed_over = float("inf")
            self._condemn("the process closed the pipe for results (as os.closerange does)")
        elif now >= self._time_over:
            self._time_over = float("inf")
            self._late = self.fed[0]
            self.kill()

    def _condemn(self, why: str) -> None:
        self._fault = why
        self.kill()

    def death(self, out_of_memory: bool) -> Outcome | None:
        """Return the outcome of the task that the child died in, or None if it had none.

        `out_of_memory`: the kernel has killed something for want of memory, perhaps the child.
        """
        if not self.fed:
            return None
        if self._late is not None and self.fed[0] is not self._late:
            return None  # it answered at the last moment; the next one is not to blame
        fed = self.fed.popleft()
        if self._late is not None:
            text = f"the task took longer than its {self._inputs.timeout:g} s"
            data = json.dumps(["TaskTimeout", text, ""]).encode()
            return self._dead(fed, records.TIMED_OUT, records.ERROR, data)
        code = os.waitstatus_to_exitcode(self.status or 0)
        out_of_memory = out_of_memory and code == -signal.SIGKILL
        state = records.OUT_OF_MEMORY if out_of_memory else records.NON_ZERO_RETURN_CODE
        if out_of_memory:
            text = "the process was killed because the Pod's memory was used up"
        elif self._fault:
            text = self._fault
        elif code < 0:
            text = f"the process was killed by {_signal_name(-code)}"
        else:
            text = f"the process ended with exit code {code} before the task returned"
        lines = f"{text}\n{self._last_lines(fed)}".strip()
        data = json.dumps({"returnCode": code, "lastLines": lines}).encode()
        return self._dead(fed, state, records.EXIT, data)

    def _dead(self, fed: Fed, state: str, encoding: str, data: bytes) -> Outcome:
        record = Record(fed.task, fed.attempt, state, encoding, data, None, self.memory)
        return Outcome(fed.claim, record, 0.0, "")

    def _last_lines(self, fed: Fed) -> str:
        """Return the end of what a task printed."""
        label, text = self._tail
        return text.decode("utf-8", "replace") if label == (fed.task, fed.attempt) else ""

    def leftovers(self) -> list[Piece]:
        """Return the tasks that were fed and not begun, for another child."""
        pieces: list[Piece] = []
        for fed in self.fed:
            if not pieces or pieces[-1][:2] != (fed.claim, fed.attempt):
                pieces.append(Piece(fed.claim, fed.attempt, [], []))
            pieces[-1].tasks.append(fed.task)
            pieces[-1].items.append(fed.item)
        self.fed.clear()
        return pieces

    def kill(self) -> None:
        """Kill the child and what belongs to its session's process group."""
        if self.pid and self.status is None:
            for kill, pid in ((os.killpg, self.pid), (os.kill, self.pid)):
                try:
                    kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def close(self) -> None:
        """Close our ends of the pipes."""
        for descriptor in (self.tasks, self.results, self.output):
            os.close(descriptor)
        self.turns.close()


def _read(descriptor: int) -> tuple[bytes, bool]:
    """Return what is in the pipe now, and whether its other end is closed.

    Only so much at once that others get their turn, but more than a pipe holds.
    """
    pieces: list[bytes] = []
    try:
        while len(pieces) < PIECES:
            piece = os.read(descriptor, READ_SIZE)
            if not piece:
                return b"".join(pieces), True
            pieces.append(piece)
    except BlockingIOError:
        pass  # the pipe is empty: that is the end of what there is now
    return b"".join(pieces), False


def _error_of(encoding: int, data: bytes) -> tuple[str, str, str]:
    found: Any = json.loads(data)
    if ENCODINGS[encoding] == records.EXIT:
        return "SystemExit", found["lastLines"], ""
    return found[0], found[1], found[2]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
