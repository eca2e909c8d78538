"""A process that only forks: it has everything imported and never runs user code.

A child forked from it begins in about a millisecond, with cloudpickle loaded and nothing of an
earlier job in its memory. The agent asks over a socket, sending the child's file descriptors
(`child.Ends`), and hears of each child's pid and end, one JSON line each.

Outside of a container the zygote inherits what a job's processes leave behind, so that the agent
finds them below it (`processes`).
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from . import child, output
from .memory import mebibytes
from .note import Note

_PR_SET_CHILD_SUBREAPER = 36


def start(note: Note, scratch: str, library: str) -> Zygote:
    """Fork the zygote; called before the agent has any thread."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        status = 1
        try:
            _serve(theirs, note, scratch, library)
            status = 0
        except KeyboardInterrupt:
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    ours.setblocking(False)
    return Zygote(ours, pid)


class Zygote:
    """The agent's side of the socket."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        """`sock` is connected to the zygote with process id `pid`."""
        self.socket, self.pid = sock, pid
        self._text = b""

    def fork(self, descriptors: list[int]) -> None:
        """Ask for a child with these file descriptors; `events` tells its pid later."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        self.socket.sendmsg([b"F"], [rights])

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what came: ``{"pid"}`` of a new child, or the end of one.

        An end is ``{"ended": pid, "status", "memory": its peak in MiB}``.

        Raises:
            EOFError: the zygote is gone.
        """
        with contextlib.suppress(BlockingIOError):
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise EOFError("the zygote is gone")
            self._text += piece
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            yield json.loads(line)


def _serve(sock: socket.socket, note: Note, scratch: str, library: str) -> None:
    """Fork children until the agent closes its end."""
    if library not in sys.path:
        sys.path.append(library)
    import cloudpickle  # noqa: F401 - so that children have it

    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_in, False)
    os.set_blocking(wake_out, False)
    signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the agent decides when children end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopts = os.getppid() == 1  # in a container the agent, its first process, gets them
    while True:
        readable, _, _ = select.select([sock.fileno(), wake_in], [], [])
        if wake_in in readable:
            os.read(wake_in, 1 << 10)
            for end in _ends():
                _say(sock, end)
        if sock.fileno() in readable:
            data, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4 * len(child.Ends._fields)))
            if not data:
                return
            descriptors = array.array("i")
            for _, _, rights in ancillary:
                descriptors.frombytes(rights)
            pid = os.fork()
            if pid == 0:
                _become_child(sock, [wake_in, wake_out], child.Ends(*descriptors), note, scratch)
            for descriptor in descriptors:
                os.close(descriptor)
            _say(sock, {"pid": pid})
            if not adopts:
                adopts = _adopt_orphans()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Let the signal wake `select`; there is nothing else to do."""


def _adopt_orphans() -> bool:
    """Become the parent of what our children leave behind; return True, tried once."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError) as error:  # no such call: no Linux
        print(f"shoal worker: orphans go to the first process: {error}", file=sys.stderr)
    return True


def _ends() -> Iterator[dict[str, int]]:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield {"ended": pid, "status": status, "memory": mebibytes(usage.ru_maxrss)}


def _say(sock: socket.socket, message: dict[str, Any]) -> None:
    sock.sendall(json.dumps(message).encode() + b"\n")


def _become_child(
    sock: socket.socket, pipe: list[int], ends: child.Ends, note: Note, scratch: str
) -> None:
    """Run `child.main` in this process and end it."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        sock.close()
        for descriptor in pipe:
            os.close(descriptor)
        os.setsid()
        for descriptor in ends:  # not for the programs that tasks run
            os.set_inheritable(descriptor, False)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(ends.output, 1)
        os.dup2(ends.output, 2)
        os.close(null)
        output.open_streams()
        child.main(ends, note, scratch)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
