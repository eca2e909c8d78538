"""What tasks print: whose it is, and how it reads in the Pod's log.

All tasks of a child print into one pipe. The child writes a mark before each task: bytes that the
agent drew at random, then the task and its attempt. So every byte has its task, however short the
tasks are.
"""

from __future__ import annotations

import io
import os
import select
import struct
import sys
from typing import Any, Callable, NamedTuple

#: What follows the random bytes: task, attempt, and a byte that no mark has, so that the end of one
#: mark is never taken for the beginning of another.
_LABEL = struct.Struct("!QIc")
_END = b"\n"


class Label(NamedTuple):
    """One attempt of a task."""

    task: int
    attempt: int


def draw() -> bytes:
    """Return a mark; it begins with a byte that text does not have."""
    return b"\0" + os.urandom(12).hex().encode()


def marks(mark: bytes) -> Callable[[int, int], bytes]:
    """Return what makes of task and attempt the bytes that a child writes before the task."""
    pack, end = struct.Struct(f"!{len(mark)}sQIc").pack, _END
    return lambda task, attempt: pack(mark, task, attempt, end)


def _label(data: bytes) -> Label:
    return Label(*_LABEL.unpack_from(data)[:2])


class Splitter:
    """Takes the marks out of one child's output."""

    def __init__(self, mark: bytes) -> None:
        """`mark` is the child's."""
        self._mark = mark
        self._held = b""
        self.label: Label | None = None

    def split(self, data: bytes) -> list[tuple[Label | None, bytes]]:
        """Return pieces of output and whose they are: None before the first task.

        What may be the beginning of a mark at the end of `data` is held until more comes.
        """
        data = self._held + data
        cut = self._cut(data)
        first, *others = data[:cut].split(self._mark)
        self._held = data[cut:]
        found = [(self.label, first)] if first else []
        whose = b""
        for other in others:
            if len(other) != _LABEL.size:  # else it printed nothing
                if len(other) < _LABEL.size:  # the last one, and the rest of it is still to come
                    self._held = self._mark + other + self._held
                    break
                found.append((_label(other), other[_LABEL.size :]))
            whose = other
        if whose:
            self.label = _label(whose)
        return found

    def _cut(self, data: bytes) -> int:
        """Return where the beginning of a mark stands at the end of `data`, or its length."""
        start = data.find(self._mark[:1], max(0, len(data) - len(self._mark) + 1))
        while start >= 0 and not self._mark.startswith(data[start:]):
            start = data.find(self._mark[:1], start + 1)
        return start if start >= 0 else len(data)

    def rest(self) -> bytes:
        """Return what was held of a child that is dead: it was no mark."""
        held, self._held = self._held, b""
        return held


class _Patient(io.FileIO):
    """A file that is written as a whole, also where a task made its pipe non-blocking.

    Python's own streams lose what such a pipe has no room for.
    """

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            done = super().write(rest)
            if done is None:
                select.select([], [self], [])
            else:
                rest = rest[done:]
        return size


def open_streams() -> None:
    """Make this process's standard streams such that they lose nothing, and go out by the line."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        raw = _Patient(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            raw if old.write_through else io.BufferedWriter(raw),
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=True,
            write_through=old.write_through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


class PodLog:
    """The Pod's own log, where lines of a map's tasks begin with their task."""

    def __init__(self) -> None:
        """Write to this process's standard output."""
        self._whose: Label | None = None
        self._begins = True
        self._broken = False

    def write(self, whose: Label | None, text: bytes) -> None:
        """Write what a task printed; `whose` is None for a job of one task."""
        prefix = b""
        if whose is not None:
            attempt = f", attempt {whose.attempt}" if whose.attempt > 1 else ""
            prefix = f"[task {whose.task}{attempt}] ".encode()
        begin = b"" if self._begins else b"\n" * (whose != self._whose)
        if prefix:
            if self._begins or begin:
                begin += prefix
            last = b"\n" if text.endswith(b"\n") else b""
            lines = text[: len(text) - len(last)].replace(b"\n", b"\n" + prefix) + last
        else:
            lines = text
        self._whose, self._begins = whose, text.endswith(b"\n")
        self._out(begin + lines)

    def _out(self, text: bytes) -> None:
        if self._broken:
            return
        try:
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
        except OSError as error:  # nobody reads it any more; results matter more
            self._broken = True
            print(f"shoal worker: the Pod's log is closed: {error}", file=sys.stderr)
