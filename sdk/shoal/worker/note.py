"""The running task, in a few bytes that outlive every process.

They stand in the file that the kubelet reads as termination message: it is how anybody knows what
was running when the kernel killed the whole container. Agent, zygote and children share one map of
it: a child writes, and the agent clears what a dead child cannot.
"""

from __future__ import annotations

import mmap
import sys

#: The length of the note in bytes.
SIZE = 64


class Note:
    """The file, mapped; without a file nothing is noted."""

    def __init__(self, path: str) -> None:
        """`path` is empty where nobody would read it."""
        self._map: mmap.mmap | None = None
        if path:
            try:
                with open(path, "r+b") as file:
                    file.truncate(SIZE)
                    self._map = mmap.mmap(file.fileno(), SIZE)
            except OSError as error:
                print(f"shoal worker: no note of the running task: {error}", file=sys.stderr)

    def set(self, job: str, task: int, attempt: int) -> None:
        """Note that a task begins."""
        if self._map is not None:
            self._map[:] = f"{job} {task} {attempt}".encode().ljust(SIZE)

    def clear(self) -> None:
        """Note that nothing runs."""
        if self._map is not None:
            self._map[:] = b" " * SIZE
