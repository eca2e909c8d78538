"""Ends what a job leaves running, so that the next job finds nobody.

As the first process of a container the agent may end every process there is. Elsewhere (the `Local`
host, a Pod whose containers share their processes) it ends those below the zygote, to which the
kernel gives what loses its parent, and those of the child's session.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

#: What does not die in so many seconds (it hangs in the kernel) is left behind.
PATIENCE = 2.0


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int


def kill_strangers(root: int, session: int, spared: Collection[int]) -> None:
    """Kill what a job left, and wait until it is dead.

    In a container that is every process that is not `spared`, elsewhere those below `root` and
    those of `session`.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:  # they may fork while we look, and take a moment to die
        victims, sure = _victims(root, session, {*spared, os.getpid()})
        killed = 0
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except (ProcessLookupError, PermissionError):
                continue
        if sure and not killed:
            return


def _victims(root: int, session: int, spared: Collection[int]) -> tuple[list[int], bool]:
    """Return who is to die, and whether that is all: nobody's parent went while we looked."""
    everything = os.getpid() == 1
    processes = list(_processes())
    parents = {process.pid: process.parent for process in processes}
    victims, sure = [], True
    for process in processes:
        if process.pid in spared:
            continue
        above: int | None = process.parent
        while above not in (0, 1, root, None):
            above = parents.get(above)
        if everything or process.session == session or above == root:
            victims.append(process.pid)
        elif above is None:
            sure = False
    return victims, sure


def _processes() -> Iterator[_Process]:
    """Yield the processes that can be seen; zombies are left out."""
    if not os.path.isdir("/proc/self"):
        return
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != b"Z":
            yield _Process(int(name), int(fields[1]), int(fields[3]))


def reap() -> None:
    """Collect what died and became ours, as the first process of a container must.

    The zygote is our only child of our own; its end is seen on its socket.
    """
    if os.getpid() != 1:
        return
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def hide_environment() -> None:
    """Let no program of this container read this process's first environment, or its children's.

    Those have it until they become other programs.
    """
    not_dumpable = (4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: its /proc belongs to root then
    ctypes.CDLL(None).prctl(*not_dumpable)
