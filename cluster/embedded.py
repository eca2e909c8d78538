"""The embedded cluster: a whole Kubernetes of two nodes as processes of this machine.

A cluster lives from `up` to `down`. `up` looks at what runs: all healthy is used as it is; where
the store still answers, what is missing is started again; anything else is swept away and started
empty. Binaries and images stay in the cache, so that a start takes seconds.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from cluster import (
    binaries,
    components,
    health,
    images,
    layout,
    nodes,
    packages,
    pinned,
    processes,
    sweep,
)
from cluster.bringup import Bringup
from cluster.errors import ClusterError, MissingTool
from cluster.faults import Faults
from cluster.folders import Folders
from cluster.pki import Pki
from cluster.steps import say, step


@dataclass(frozen=True)
class Embedded:
    """The cluster that this machine runs itself."""

    folders: Folders

    @property
    def kubeconfig(self) -> Path:
        """The administrator's file."""
        return self.folders.kubeconfig

    @property
    def endpoint(self) -> str:
        """MinIO's node port on the bridge."""
        return f"http://{layout.HOST_ADDRESS}:{layout.MINIO_NODE_PORT}"

    def up(self) -> None:
        """Have a healthy cluster, whatever is there now."""
        check_machine()
        sweep.check_alone(self.folders)
        self.build()
        bringup = Bringup(self.folders)
        current = bringup.definition_of_running() == bringup.definition()
        if current and not self.ailing():
            say("  running and healthy: used as it is")
        elif not (current and self._store_answers() and self._repair(bringup)):
            self._start_empty(bringup)
        for archive in images.archives(self.folders):
            self.load(archive)

    def down(self) -> None:
        """Take the cluster away; raises ClusterError when something stays."""
        check_machine()
        with step("taking the cluster down"):
            sweep.sweep(self.folders)
        if left := sweep.remains(self.folders):
            raise ClusterError("could not take away: " + ", ".join(left))

    def build(self) -> None:
        """Packages, binaries and images; nothing is started."""
        packages.install(building=True)
        binaries.build(self.folders, [*binaries.control_plane(), *binaries.tools()])
        images.build(self.folders)

    def load(self, archive: Path) -> None:
        """Import the archive into both nodes, where it is not yet."""
        for node in layout.NODES:
            if not nodes.is_loaded(self.folders, node, archive):
                with step(f"loading {archive.name} into {node.name}"):
                    nodes.load(self.folders, node, archive)

    def ailing(self) -> list[str]:
        """Names of components and nodes that are not as they should be; empty when all is well."""
        return [name for name, _, well in self.report() if not well]

    def report(self) -> list[tuple[str, str, bool]]:
        """Name, what is known of it, and health of each component and node."""
        pki = Pki(self.folders.pki)
        rows = []
        for component in components.everything(self.folders, pki):
            pid = processes.find(component)
            well = pid is not None and health.is_healthy(component, pki)
            rows.append((component.name, f"pid {pid}" if pid else "not running", well))
        try:
            ready = health.Api(pki).ready_nodes()
        except (OSError, ClusterError):
            ready = {}
        version = f"Kubernetes {pinned.kubernetes()}"
        return rows + [(n.name, version, ready.get(n.name, False)) for n in layout.NODES]

    def stop_node(self, name: str) -> None:
        """Take the node's power away."""
        with step(f"cutting {name} off: kubelet, containers and containerd are killed"):
            nodes.stop(self.folders, layout.node(name))

    def start_node(self, name: str) -> None:
        """Start it again; returns when it is Ready."""
        with step(f"starting {name}"):
            Bringup(self.folders).start_node(layout.node(name))

    @property
    def faults(self) -> Faults:
        """What tests hurt it with."""
        return Faults(self.folders)

    def _store_answers(self) -> bool:
        etcd = components.etcd(self.folders, Pki(self.folders.pki))
        found = processes.find(etcd) is not None
        return found and health.is_healthy(etcd, Pki(self.folders.pki))

    def _repair(self, bringup: Bringup) -> bool:
        """Start what is missing, and start again what runs but does not answer."""
        say(f"  not healthy, started again: {', '.join(self.ailing())}")
        try:
            for component in components.everything(self.folders, bringup.pki):
                running = processes.find(component) is not None
                if running and not health.is_healthy(component, bringup.pki):
                    processes.stop(component)
            bringup.start(empty=False)
        except ClusterError as error:
            say(f"  that did not help, so the cluster starts empty: {error}")
            return False
        return True

    def _start_empty(self, bringup: Bringup) -> None:
        left = sweep.remains(self.folders)
        if left or self.folders.state.exists():
            with step(f"sweeping away what is left of an earlier cluster ({len(left)} things)"):
                sweep.sweep(self.folders)
        bringup.prepare()
        bringup.start(empty=True)


def check_machine() -> None:
    """Raises MissingTool where this machine can't run a cluster."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        raise MissingTool(
            "the embedded cluster needs Linux and root; without them install Docker and kind, "
            "or name a cluster with SHOAL_KUBECONFIG"
        )
