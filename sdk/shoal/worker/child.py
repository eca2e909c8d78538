"""The process that runs the user's function: one for each job, forked by the zygote.

It reads messages from one pipe and writes outcomes to another, both as length-prefixed pieces:

- in: ``u32 length | frame`` where the frame is ``{"open": ...}`` once, then ``{"tasks": ...}``
- out: `RESULT` head, then the outcome's bytes (or, where they are large, the path of a file)

Before each task it waits for the task's turn (`turns`) and marks its output (`output`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import struct
import sys
import time
from typing import Any, BinaryIO, Callable, NamedTuple

from . import frames
from .memory import Peak
from .note import Note
from .outcomes import Outcome, Pickler, failure
from .output import marks
from .turns import SKIP

#: Head of an outcome: task, attempt, state, encoding, MiB, seconds, length; network order.
RESULT = struct.Struct("!QIBBIdQ")
#: In place of a state: the task began, at the monotonic time that stands for the seconds.
BEGUN = 0xFF
#: In place of a task's index: the function could not be loaded (the bytes are an error).
NOT_LOADED = (1 << 64) - 1
#: The process is looked after at most once in so many seconds: what a shorter task did to it, or
#: how much memory it took, cannot be much.
LOOK_INTERVAL = 0.001

Call = Callable[[memoryview], Outcome]


class Ends(NamedTuple):
    """A child's ends of its four connections with the agent, as file descriptors."""

    tasks: int
    results: int
    output: int
    turns: int


def main(ends: Ends, note: Note, scratch: str) -> None:
    """Serve one job until there are no more messages."""
    source = os.fdopen(ends.tasks, "rb", buffering=1 << 16)
    pickler = Pickler(scratch)
    opened = _read(source)
    if opened is None:
        return
    header, blobs = opened
    job, pid = header["open"], os.getpid()
    try:
        peak = Peak()
        call = _prepare(job, blobs, pickler, peak)
    except BaseException as error:
        _write(ends.results, NOT_LOADED, 0, failure(error))
        return
    if os.getpid() != pid:
        return  # the function's module forked, and the other one serves
    tasks = _Tasks(ends, note, job, call, peak)
    while (message := _read(source)) is not None and tasks.run(*message):
        note.clear()


class _Tasks:
    """Runs one task after the other."""

    def __init__(self, ends: Ends, note: Note, job: dict[str, Any], call: Call, peak: Peak) -> None:
        self._ends, self._note, self._call = ends, note, call
        self._output = ends.output
        self._job: str = job["id"]
        self._tells_begin: bool = job["tellsBegin"]
        self._mark = marks(job["mark"].encode())
        self._peak = peak
        self._due = 0.0
        self._is_copy = False
        os.register_at_fork(after_in_child=self._become_copy)

    def run(self, header: dict[str, Any], blobs: list[memoryview]) -> bool:
        """Run the tasks of one message; return False if there is no agent any more."""
        attempt, start, data = header["attempt"], 0, blobs[0]
        results, turns = self._ends.results, self._ends.turns
        for task, size in zip(header["tasks"], header["lengths"]):
            turn = os.read(turns, 1)
            if turn == SKIP:
                start += size
                continue
            if not turn:
                return False
            self._note.set(self._job, task, attempt)
            self._begin_output(task, attempt)
            if self._tells_begin:
                _write(results, task, attempt, (BEGUN, 0, b""), time.monotonic())
            began = time.perf_counter()
            outcome = self._call(data[start : start + size])
            ended = time.perf_counter()
            start += size
            # what the task printed must be in its pipe before its outcome is
            self._flush()
            if self._is_copy:
                os._exit(0)  # the task forked, and the other one answers
            is_due = ended >= self._due or outcome[0] != 0
            memory = self._look_after() if is_due else self._peak.of_short
            _write(results, task, attempt, outcome, ended - began, memory)
        return True

    def _look_after(self) -> int:
        """Repair what tasks may have done to the process; return the peak of its memory."""
        self._give_streams_back()
        memory = self._peak.measure()
        self._due = time.perf_counter() + LOOK_INTERVAL
        return memory

    def _give_streams_back(self) -> None:
        """Open the standard streams again that a task closed: others want to print, too."""
        for number in (1, 2):
            try:
                os.get_inheritable(number)
            except OSError:
                if self._output >= 0:
                    os.dup2(self._output, number)

    def _become_copy(self) -> None:
        self._is_copy = True

    def _begin_output(self, task: int, attempt: int) -> None:
        """Mark what follows in the output as this task's."""
        mark = self._mark(task, attempt)
        while self._output >= 0:
            try:
                os.write(self._output, mark)
                return
            except BlockingIOError:  # a task, or a program that it ran, made the pipe so
                select.select([], [self._output], [])
            except OSError:  # a task closed what it did not open: the rest counts as its output
                self._output = -1

    def _flush(self) -> None:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:
            self._give_streams_back()
            for name in ("stdout", "stderr"):
                with contextlib.suppress(Exception):  # what a task put there is its own affair
                    getattr(sys, name).flush()


def _read(source: BinaryIO) -> tuple[dict[str, Any], list[memoryview]] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack("!I", head)
    return frames.unpack(source.read(length))


def _write(
    results: int, task: int, attempt: int, outcome: Outcome, seconds: float = 0.0, memory: int = 0
) -> None:
    state, encoding, data = outcome
    piece = RESULT.pack(task, attempt, state, encoding, memory, seconds, len(data)) + data
    done = os.write(results, piece)
    while done < len(piece):
        done += os.write(results, piece[done:])


def _prepare(job: dict[str, Any], blobs: list[memoryview], pickler: Pickler, peak: Peak) -> Call:
    """Return what runs one task of the job on its item's bytes."""
    sys.path[:0] = job["sysPaths"]
    os.environ["SHOAL_JOB"] = job["id"]
    os.chdir(job["directory"])
    if job["kind"] == "command":
        return lambda _item: _command(job, blobs)
    function = _load(job["function"], blobs)
    as_json = job["results"] == "json"
    decode, encode = _forms(job, pickler)
    single = job["kind"] == "function"

    def run(item: memoryview) -> Outcome:
        try:
            value = decode(item)
            if not single:
                return encode(function(value))
            args, kwargs = (value["args"], value["kwargs"]) if as_json else value
            return encode(function(*args, **kwargs))
        except BaseException as error:
            peak.fails()
            return failure(error)

    return run


def _forms(
    job: dict[str, Any], pickler: Pickler
) -> tuple[Callable[[Any], Any], Callable[[Any], Outcome]]:
    """Return what reads the job's items, and what writes its results."""
    if job["results"] == "json":
        return lambda item: json.loads(bytes(item)), pickler.json
    if job["python"] == "{}.{}".format(*sys.version_info[:2]):
        return pickle.loads, pickler.pickled
    from . import portable

    pickler.use(portable.Pickler)
    return portable.loads, pickler.pickled


def _load(about: dict[str, Any], blobs: list[memoryview]) -> Callable[..., Any]:
    """Return the job's function; its module is imported with submissions refused."""
    import importlib

    os.environ["SHOAL_IMPORTING"] = "1"
    try:
        if "blob" in about:
            loaded: Callable[..., Any] = pickle.loads(blobs[about["blob"]])
            return loaded
        module, _, name = about["name"].rpartition(".")
        found: Any = getattr(importlib.import_module(module), name)
        if not callable(found):
            raise TypeError(f"{about['name']} is a {type(found).__name__}, no function")
        return found  # type: ignore[no-any-return]
    finally:
        del os.environ["SHOAL_IMPORTING"]


def _command(job: dict[str, Any], blobs: list[memoryview]) -> Outcome:
    """Run the command with our output; the agent adds the last lines of it."""
    import subprocess

    environment = dict(os.environ)
    if job.get("context") is not None:
        path = os.path.join(job["directory"], ".shoal-context")
        with open(path, "wb") as file:
            file.write(blobs[job["context"]])
        environment["SHOAL_CONTEXT_VARIABLES"] = environment["MEADOWRUN_CONTEXT_VARIABLES"] = path
    environment["PYTHONPATH"] = os.pathsep.join(
        [*job["sysPaths"], *filter(None, [environment.get("PYTHONPATH", "")])]
    )
    environment["PYTHONUNBUFFERED"] = "1"
    about: dict[str, Any]
    try:
        code = subprocess.call(job["argv"], stdin=subprocess.DEVNULL, env=environment)
        about = {"returnCode": code}
    except OSError as error:
        code = 127
        about = {"returnCode": code, "lastLines": f"{job['argv'][0]}: {error.strerror}"}
    return (0 if code == 0 else 2), 3, json.dumps(about).encode()
