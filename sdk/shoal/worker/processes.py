"""Ends what a job leaves running, so that the next job finds nobody.

As the first process of a container the agent may end every process there is; elsewhere (the `Local`
host) it ends those of the child's session, which they cannot leave unseen by leaving the group.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator


def kill_strangers(session: int, spared: Collection[int]) -> None:
    """Kill every process that is not ours: all others in a container, else those of `session`."""
    everything = os.getpid() == 1
    for _ in range(3):  # a process may fork while we look
        victims = [
            pid
            for pid, its_session in _processes()
            if pid not in spared and pid != os.getpid() and (everything or its_session == session)
        ]
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        if not victims:
            return


def _processes() -> Iterator[tuple[int, int]]:
    """Yield (pid, session) of the processes that can be seen; zombies are left out."""
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
            yield int(name), int(fields[3])


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
