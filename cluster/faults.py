"""Hurting the embedded cluster on purpose, for tests: what is hurt can be healed again.

A component is ended, started, paused (it hangs) and resumed; its connections are reset. A signal
reaches a Pod's processes from outside, as the kernel's own do. An address is cut off by packet
filter rules, each cut in a table of its own, and mended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import cgroups, commands, components, network, processes
from cluster.bringup import Bringup
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.pki import Pki

SANDBOX = "pause"


@dataclass(frozen=True)
class Faults:
    """The faults of one embedded cluster."""

    folders: Folders

    def stop(self, name: str) -> None:
        """Kill a component, as a crash does."""
        processes.stop(self._component(name), force=True)

    def start(self, name: str) -> None:
        """Start a component that does not run; returns when it is healthy."""
        component = self._component(name)
        bringup = Bringup(self.folders)
        bringup.run(component)
        bringup.wait_for(component)

    def pause(self, name: str) -> None:
        """Let a component hang: it accepts connections, and never answers."""
        self._signal(self._component(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused component go on."""
        self._signal(self._component(name), signal.SIGCONT)

    def drop_connections(self, name: str) -> None:
        """Reset every connection that somebody has to the component's listeners."""
        for address, port in self._component(name).listens:
            commands.run(["ss", "-K", "state", "established", "src", f"{address}:{port}"])

    def signal_pod(self, uid: str, number: signal.Signals, *, depth: int | None = None) -> None:
        """Send a signal to the processes of a Pod's containers, their first ones first.

        The kernel kills a container whole when its first process is killed. `depth` chooses: 0 are
        the containers' first processes, 1 their children, and so on.
        """
        found = [
            (level, pid)
            for level, pid in processes_of_pod(self.folders, uid)
            if depth is None or level == depth
        ]
        if not found:
            raise ClusterError(f"no such process of a Pod with the uid {uid} runs here")
        for _, pid in sorted(found):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # its container's first process took it along

    def cut(self, address: str, port: int | None, *, refuse: bool) -> None:
        """Let nothing through to an address (and, without a port, from it).

        `refuse`: who tries is told so at once, where packets else vanish.
        """
        network.cut(address, port, refuse=refuse)

    def mend(self, address: str | None, port: int | None) -> None:
        """Undo a cut, or all of them."""
        network.mend(address, port)

    def _component(self, name: str) -> Component:
        known = components.everything(self.folders, Pki(self.folders.pki))
        for component in known:
            if component.name.replace(" ", "-") == name:
                return component
        names = ", ".join(component.name.replace(" ", "-") for component in known)
        raise ClusterError(f"no component {name!r}; there are {names}")

    def _signal(self, component: Component, number: signal.Signals) -> None:
        pid = processes.find(component)
        if pid is None:
            raise ClusterError(f"{component.name} does not run")
        os.kill(pid, number)


def processes_of_pod(
    folders: Folders, uid: str, *, root: Path = cgroups.ROOT, proc: Path = Path("/proc")
) -> list[tuple[int, int]]:
    """Depth and pid of every process of the Pod's containers, without what holds its sandbox."""
    pids = set(_pids(folders, uid, root))
    parents: dict[int, int] = {}
    for pid in pids:
        try:
            is_sandbox = Path(os.readlink(proc / str(pid) / "exe")).name == SANDBOX
            stat = (proc / str(pid) / "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        if not is_sandbox:
            parents[pid] = int(stat.rpartition(")")[2].split()[1])
    return [(_depth(pid, parents), pid) for pid in parents]


def _depth(pid: int, parents: dict[int, int]) -> int:
    depth = 0
    while (pid := parents[pid]) in parents:
        depth += 1
    return depth


def _pids(folders: Folders, uid: str, root: Path) -> Iterator[int]:
    """Processes in the Pod's groups; `os.walk` passes over groups that go meanwhile."""
    for hierarchy in cgroups.hierarchies(root):
        for group, _, files in os.walk(hierarchy / folders.mark):
            if f"pod{uid}" not in Path(group).parts or "cgroup.procs" not in files:
                continue
            try:
                text = (Path(group) / "cgroup.procs").read_text()
            except OSError:
                continue  # it went, or holds threads only
            yield from map(int, text.split())
