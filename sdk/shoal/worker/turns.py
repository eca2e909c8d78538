"""Which of the tasks in a child's hands may begin.

The child reads one byte before each task: `RUN`, or `SKIP`. Until then the agent can take the task
back, by reading the byte itself: each byte goes to one reader only, so a task either begins or is
taken back. Since tasks and bytes are both in order, what is left of the bytes belongs to the last
of the tasks.

It is a socket, not a pipe, because both read the same end: the child must wait for a byte and the
agent must not, and only a socket's `recv` says so for one call instead of for the open file.
"""

from __future__ import annotations

import os
import socket

RUN, SKIP = b"r", b"s"
#: More than a socket's buffer holds, in bytes.
_ALL = 1 << 20


class Turns:
    """The agent's side."""

    def __init__(self) -> None:
        """Open the socket; `theirs` is the child's end, and stays open here, too."""
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._unsent = bytearray()

    @property
    def theirs(self) -> int:
        """The descriptor that the child reads."""
        return self._theirs.fileno()

    def fileno(self) -> int:
        """Return the descriptor that has room, or not."""
        return self._ours.fileno()

    def give(self, count: int) -> None:
        """Let the next `count` tasks begin."""
        self._unsent += RUN * count
        self.write()

    def take_back(self) -> int:
        """Return how many tasks that were to run have not begun; the child will skip them."""
        left = b""
        try:
            # One call: the receiver holds the queue's lock until it has everything. With two, the
            # child could read in between, and take the turn of a later task for its next one.
            left = self._theirs.recv(_ALL, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass  # no task has its turn: those without are in `_unsent`
        left += self._unsent
        self._unsent[:] = SKIP * len(left)
        self.write()
        return left.count(RUN)

    @property
    def wants_to_write(self) -> bool:
        """Whether turns wait for room in the socket."""
        return bool(self._unsent)

    def write(self) -> None:
        """Write as much as the socket takes."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._ours.fileno(), self._unsent)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent.clear()  # the child is dead

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()
