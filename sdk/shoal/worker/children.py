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
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import frames, records
from .child import ENCODINGS, IN_FILE, NOT_LOADED, RESULT, STATES
from .inputs import Piece
from .records import Record, Ref

#: How much is read from a pipe at once, in bytes.
READ_SIZE = 1 << 20
#: How many such pieces of a living child are taken in one turn.
PIECES = 8
#: How much of a child's output is kept for the message about its death, in bytes.
TAIL_SIZE = 2_000


class Outcome(NamedTuple):
    """What a child wrote of one task; `path` names the file with a large result."""

    claim: str
    record: Record
    seconds: float
    path: str


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
        self.theirs = [tasks_out, results_in, output_in]
        for descriptor in (self.tasks, self.results, self.output):
            os.set_blocking(descriptor, False)
        self.pid = 0
        self.job = ""
        self.status: int | None = None
        self.fed: deque[Fed] = deque()
        self.tail = b""
        self.output_ended = self.results_ended = False
        self._unsent = bytearray()
        self._received = bytearray()

    def open(self, job: str, message: bytes) -> None:
        """Give the child its job."""
        self.job = job
        self._send(message)

    def feed(self, piece: Piece) -> None:
        """Give the child tasks."""
        self.fed.extend(
            Fed(piece.claim, piece.attempt, task, item)
            for task, item in zip(piece.tasks, piece.items)
        )
        lengths = [len(item) for item in piece.items]
        header = {"tasks": piece.tasks, "attempt": piece.attempt, "lengths": lengths}
        self._send(frames.pack(header, [b"".join(piece.items)]))

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

    def read_output(self) -> bytes:
        """Return what the child printed since."""
        text, self.output_ended = _read(self.output, everything=self.status is not None)
        if text:
            self.tail = (self.tail + text)[-TAIL_SIZE:]
        return text

    def read_outcomes(self) -> Iterator[Outcome]:
        """Yield the outcomes that the child wrote since.

        Raises:
            NotLoaded: it could not load the function.
        """
        piece, self.results_ended = _read(self.results, everything=self.status is not None)
        self._received += piece
        start = 0
        try:
            while len(self._received) - start >= RESULT.size:
                head = RESULT.unpack_from(self._received, start)
                stop = start + RESULT.size + head[-1]
                if stop > len(self._received):
                    break
                data = bytes(self._received[start + RESULT.size : stop])
                start = stop
                if head[0] == NOT_LOADED:
                    raise NotLoaded(*_error_of(head[3], data))
                yield self._outcome(head, data)
        finally:
            del self._received[:start]

    def _outcome(self, head: tuple[Any, ...], data: bytes) -> Outcome:
        task, attempt, state, encoding, seconds, _ = head
        fed = self.fed.popleft()
        if fed.task != task:
            raise AssertionError(f"the child answered task {task} where {fed.task} was next")
        path, ref = "", None
        if encoding & IN_FILE:
            path, digest = json.loads(data)
            ref, data = Ref("", digest, os.path.getsize(path)), b""
        record = Record(task, attempt, STATES[state], ENCODINGS[encoding & ~IN_FILE], data, ref)
        return Outcome(fed.claim, record, seconds, path)

    def death(self, out_of_memory: bool) -> Outcome | None:
        """Return the outcome of the task that the child died in, or None if it had none."""
        if not self.fed:
            return None
        fed = self.fed.popleft()
        code = os.waitstatus_to_exitcode(self.status or 0)
        state = records.OUT_OF_MEMORY if out_of_memory else records.NON_ZERO_RETURN_CODE
        if out_of_memory:
            text = "the process was killed because the Pod's memory was used up"
        elif code < 0:
            text = f"the process was killed by {_signal_name(-code)}"
        else:
            text = f"the process ended with exit code {code} before the task returned"
        tail = self.tail.decode("utf-8", "replace")
        about = {"returnCode": code, "lastLines": f"{text}\n{tail}".strip()}
        data = json.dumps(about).encode()
        record = Record(fed.task, fed.attempt, state, records.EXIT, data)
        return Outcome(fed.claim, record, 0.0, "")

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


def _read(descriptor: int, *, everything: bool) -> tuple[bytes, bool]:
    """Return what is in the pipe now, and whether its other end is closed.

    Of a living child only so much at once that the others get their turn.
    """
    pieces: list[bytes] = []
    try:
        while everything or len(pieces) < PIECES:
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
