"""Starting, finding and ending the components' processes.

``/proc`` is the only record of what runs: there are no pid files that could outlive their process
and name a stranger. A process is ours when it runs the component's program *and* has the argument
that names a file in our own folder.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cluster.components import Component
from cluster.errors import ClusterError
from cluster.folders import Folders

DELETED = " (deleted)"


def find(component: Component, proc: Path = Path("/proc")) -> int | None:
    """The pid of `component`, or None."""
    for pid, program, arguments in running(proc):
        if program == str(component.program) and component.mark in arguments:
            return pid
    return None


def running(proc: Path = Path("/proc")) -> Iterator[tuple[int, str, list[str]]]:
    """Pid, program and arguments of every process that has a program and is not a zombie."""
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            program = os.readlink(entry / "exe").removesuffix(DELETED)
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended meanwhile, or is a thread of the kernel
        yield int(entry.name), program, words[1:]


def shares_network(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether process `pid` lives in the same network namespace as this one."""
    try:
        return os.readlink(proc / str(pid) / "ns/net") == os.readlink(proc / "self/ns/net")
    except OSError:
        return False


def log_file(folders: Folders, component: Component) -> Path:
    """Where the component writes."""
    return folders.logs / f"{component.name.replace(' ', '-')}.log"


def start(folders: Folders, component: Component) -> int:
    """Start `component` in a session of its own, so that it outlives the shell.

    Raises ClusterError where another program holds an address that it needs.
    """
    for address, port in component.listens:
        _check_free(component, address, port)
    folders.logs.mkdir(parents=True, exist_ok=True)
    with log_file(folders, component).open("ab") as log:
        process = subprocess.Popen(
            component.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folders.state,
            start_new_session=True,
        )
    return process.pid


def _check_free(component: Component, address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ClusterError(
                f"{component.name} must listen on {address}:{port}, but can't: {error.strerror}. "
                f"See who holds it (`ss -ltnp sport = {port}`) and end that first"
            ) from None


def stop(component: Component, *, within: float = 15, force: bool = False) -> None:
    """End `component` and wait until it is gone; killed where it does not end in time."""
    pid = find(component)
    if pid is None:
        return
    end(pid, within=0 if force else within)


def end(pid: int, *, within: float) -> None:
    """End a process: asked first for `within` seconds, then killed."""
    if within and _signal(pid, signal.SIGTERM) and _gone(pid, within):
        return
    _signal(pid, signal.SIGKILL)
    if not _gone(pid, 10):
        raise ClusterError(f"process {pid} can't be ended")


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _gone(pid: int, within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not is_alive(pid):
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether `pid` exists and is no zombie (a child of ours that nobody has waited for)."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
