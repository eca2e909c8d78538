"""The process that runs the user's function: one for each job, forked by the zygote.

It reads messages from one pipe and writes outcomes to another, both as length-prefixed pieces:

- in: ``u32 length | frame`` where the frame is ``{"open": ...}`` once, then ``{"tasks": ...}``
- out: `RESULT` head, then the outcome's bytes (or, where they are large, the path of a file)

Before each task its index stands in the file that the kubelet reads as termination message: it is
how anybody knows what was running when the kernel killed the whole container.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import pickle
import struct
import sys
import time
from typing import Any, BinaryIO, Callable

from . import frames, records

#: Head of an outcome: task, attempt, state, encoding, seconds, length; network order.
RESULT = struct.Struct("!QIBBdQ")
STATES = (
    records.SUCCEEDED,
    records.PYTHON_EXCEPTION,
    records.NON_ZERO_RETURN_CODE,
    records.RESULT_CANNOT_BE_PICKLED,
)
#: Encodings on this pipe: those of records, then "what follows is JSON [path, sha256, encoding]".
ENCODINGS = (records.PICKLE, records.JSON, records.ERROR, records.EXIT)
IN_FILE = 0x80
#: In place of a task's index: the function could not be loaded (the bytes are an error).
NOT_LOADED = (1 << 64) - 1
#: Larger results, in bytes, go to a file and from there to the bucket.
INLINE_SIZE = 32_000
#: The length of what stands in the termination message.
NOTE_SIZE = 64
#: How much of a command's output is kept for the error message, in bytes.
TAIL_SIZE = 4_000

Outcome = tuple[int, int, bytes]  # state, encoding, bytes
Function = Callable[[Any], Any]


def main(tasks: int, results: int, note: str, scratch: str) -> None:
    """Serve one job: read `tasks`, write `results` (file descriptors) until the first ends."""
    source = os.fdopen(tasks, "rb", buffering=1 << 16)
    running = _Note(note)
    pickler = _Pickler(scratch)
    opened = _read(source)
    if opened is None:
        return
    header, blobs = opened
    job = header["open"]
    call: Callable[[memoryview, int], Outcome] | None = None
    try:
        call = _prepare(job, blobs, pickler)
    except BaseException as error:
        _write(results, NOT_LOADED, 0, _failure(error), 0.0)
        return
    while True:
        message = _read(source)
        if message is None:
            return
        header, blobs = message
        attempt, start = header["attempt"], 0
        data = blobs[0]
        for task, size in zip(header["tasks"], header["lengths"]):
            running.set(job["id"], task, attempt)
            began = time.perf_counter()
            outcome = call(data[start : start + size], task)
            seconds = time.perf_counter() - began
            start += size
            # what the task printed must be in its pipe before its outcome is
            sys.stdout.flush()
            sys.stderr.flush()
            _write(results, task, attempt, outcome, seconds)
        running.clear()


def _read(source: BinaryIO) -> tuple[dict[str, Any], list[memoryview]] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack("!I", head)
    return frames.unpack(source.read(length))


def _write(results: int, task: int, attempt: int, outcome: Outcome, seconds: float) -> None:
    state, encoding, data = outcome
    piece = RESULT.pack(task, attempt, state, encoding, seconds, len(data)) + data
    done = os.write(results, piece)
    while done < len(piece):
        done += os.write(results, piece[done:])


class _Note:
    """The running task, in a few bytes that outlive the process."""

    def __init__(self, path: str) -> None:
        self._map: mmap.mmap | None = None
        if path:
            try:
                with open(path, "r+b") as file:
                    file.truncate(NOTE_SIZE)
                    self._map = mmap.mmap(file.fileno(), NOTE_SIZE)
            except OSError as error:
                print(f"shoal: no note of the running task: {error}", file=sys.stderr)

    def set(self, job: str, task: int, attempt: int) -> None:
        if self._map is not None:
            self._map[:] = f"{job} {task} {attempt}".encode().ljust(NOTE_SIZE)

    def clear(self) -> None:
        if self._map is not None:
            self._map[:] = b" " * NOTE_SIZE


class _Pickler:
    """Turns results into bytes; large ones into files."""

    def __init__(self, scratch: str) -> None:
        import cloudpickle

        self._scratch = scratch
        self._buffer = io.BytesIO()
        self._pickler = cloudpickle.Pickler(self._buffer, 5)
        self._files = 0

    def pickled(self, value: Any) -> Outcome:
        try:
            self._buffer.seek(0)
            self._buffer.truncate()
            self._pickler.clear_memo()
            self._pickler.dump(value)
        except BaseException as error:
            return self._refused(value, error, "pickled")
        if self._buffer.tell() <= INLINE_SIZE:
            return 0, 0, self._buffer.getvalue()
        outcome = self._filed(self._buffer.getbuffer(), 0)
        self._buffer = io.BytesIO()
        self._pickler = type(self._pickler)(self._buffer, 5)
        return outcome

    def json(self, value: Any) -> Outcome:
        try:
            data = json.dumps(value, allow_nan=False).encode()
        except BaseException as error:
            return self._refused(value, error, "written as JSON")
        return (0, 1, data) if len(data) <= INLINE_SIZE else self._filed(memoryview(data), 1)

    def _refused(self, value: Any, error: BaseException, how: str) -> Outcome:
        message = f"the result ({type(value).__name__}) can't be {how}: {error}"
        return 3, 2, _error(type(error), message, _trace(error))

    def _filed(self, data: memoryview, encoding: int) -> Outcome:
        self._files += 1
        path = os.path.join(self._scratch, f"result-{os.getpid()}-{self._files}")
        with open(path, "wb") as file:
            file.write(data)
        digest = hashlib.sha256(data).hexdigest()
        return 0, encoding | IN_FILE, json.dumps([path, digest]).encode()


def _prepare(
    job: dict[str, Any], blobs: list[memoryview], pickler: _Pickler
) -> Callable[[memoryview, int], Outcome]:
    """Return what runs one task of the job on its item's bytes."""
    sys.path[:0] = job["sysPaths"]
    os.chdir(job["directory"])
    if job["kind"] == "command":
        return lambda _item, _task: _command(job, blobs)
    function = _load(job["function"], blobs)
    as_json = job["results"] == "json"
    encode = pickler.json if as_json else pickler.pickled
    decode: Callable[[Any], Any] = (
        (lambda item: json.loads(bytes(item))) if as_json else pickle.loads
    )
    single = job["kind"] == "function"

    def run(item: memoryview, _task: int) -> Outcome:
        try:
            value = decode(item)
            if not single:
                return encode(function(value))
            args, kwargs = (value["args"], value["kwargs"]) if as_json else value
            return encode(function(*args, **kwargs))
        except BaseException as error:
            return _failure(error)

    return run


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
    """Run the command with our output; its last lines are kept for the error message."""
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
    try:
        with subprocess.Popen(
            job["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process:
            tail = b""
            assert process.stdout is not None
            for piece in iter(lambda: os.read(process.stdout.fileno(), 1 << 16), b""):  # type: ignore[union-attr]
                os.write(1, piece)
                tail = (tail + piece)[-TAIL_SIZE:]
            code = process.wait()
    except OSError as error:
        code, tail = 127, f"{job['argv'][0]}: {error.strerror}".encode()
    about = {"returnCode": code, "lastLines": tail.decode("utf-8", "replace")}
    return (0 if code == 0 else 2), 3, json.dumps(about).encode()


def _failure(error: BaseException) -> Outcome:
    """Return the outcome of a task that raised."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        text = f"the function called sys.exit({error.code!r}); it must return instead"
        about = {"returnCode": code, "lastLines": text}
        return 2, 3, json.dumps(about).encode()
    try:
        message = str(error)
    except BaseException as second:
        message = f"<str() of the exception raised {type(second).__name__}>"
    return 1, 2, _error(type(error), message, _trace(error))


def _error(kind: type, message: str, trace: str) -> bytes:
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    return json.dumps([name, message[:100_000], trace[-100_000:]]).encode()


def _trace(error: BaseException) -> str:
    """Return the traceback without our own frames at its beginning."""
    import traceback

    here = os.path.dirname(_trace.__code__.co_filename)
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(here):
        frame = frame.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frame))
    except BaseException as second:
        return f"<the traceback cannot be formatted: {type(second).__name__}>"
