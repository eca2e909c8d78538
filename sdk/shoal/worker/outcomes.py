"""How a task's end becomes bytes: a value that is pickled, an exception, an exit."""

from __future__ import annotations

import hashlib
import io
import json
import os
from typing import Any

from . import records

#: States and encodings as numbers, for the pipe between child and agent.
STATES = (
    records.SUCCEEDED,
    records.PYTHON_EXCEPTION,
    records.NON_ZERO_RETURN_CODE,
    records.RESULT_CANNOT_BE_PICKLED,
)
ENCODINGS = (records.PICKLE, records.JSON, records.ERROR, records.EXIT)
#: Added to an encoding: what follows is JSON [path, sha256] of the file with the bytes.
IN_FILE = 0x80
#: Larger results, in bytes, go to a file and from there to the bucket.
INLINE_SIZE = 32_000

Outcome = tuple[int, int, bytes]  # state, encoding, bytes


class Pickler:
    """Turns results into bytes; large ones into files."""

    def __init__(self, scratch: str) -> None:
        """`scratch` is the folder for the files."""
        import cloudpickle

        self._scratch = scratch
        self._buffer = io.BytesIO()
        self._pickler = cloudpickle.Pickler(self._buffer, 5)
        self._files = 0

    def use(self, pickler: type) -> None:
        """Have another kind of pickler, which takes a file and a protocol."""
        self._pickler = pickler(self._buffer, 5)

    def pickled(self, value: Any) -> Outcome:
        """Return the outcome of a task that returned `value`."""
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
        """Return the outcome of a task that returned `value`, for readers other than Python."""
        try:
            data = json.dumps(value, allow_nan=False).encode()
        except BaseException as error:
            return self._refused(value, error, "written as JSON")
        return (0, 1, data) if len(data) <= INLINE_SIZE else self._filed(memoryview(data), 1)

    def _refused(self, value: Any, error: BaseException, how: str) -> Outcome:
        message = f"the result ({type(value).__name__}) can't be {how}: {_message(error)}"
        return 3, 2, _error(type(error), message, _trace(error))

    def _filed(self, data: memoryview, encoding: int) -> Outcome:
        self._files += 1
        path = os.path.join(self._scratch, f"result-{os.getpid()}-{self._files}")
        with open(path, "wb") as file:
            file.write(data)
        digest = hashlib.sha256(data).hexdigest()
        return 0, encoding | IN_FILE, json.dumps([path, digest]).encode()


def failure(error: BaseException) -> Outcome:
    """Return the outcome of a task that raised."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        text = f"the function called sys.exit({error.code!r}); it must return instead"
        about = {"returnCode": code, "lastLines": text}
        return 2, 3, json.dumps(about).encode()
    return 1, 2, _error(type(error), _message(error), _trace(error))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:
        return f"<str() of the exception raised {type(second).__name__}>"


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
