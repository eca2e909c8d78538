"""A cluster that somebody else runs, named by ``SHOAL_KUBECONFIG``: used as it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import binaries, commands, layout
from cluster.errors import ClusterError
from cluster.faults import Faults
from cluster.folders import Folders
from cluster.health import is_ready
from cluster.steps import say


@dataclass(frozen=True)
class Named:
    """A cluster of others."""

    folders: Folders
    kubeconfig: Path

    @property
    def endpoint(self) -> str:
        """``SHOAL_ENDPOINT_URL`` as it is set, else MinIO's node port on the first node."""
        if named := os.environ.get("SHOAL_ENDPOINT_URL"):
            return named
        for address in self._nodes()[0]["status"]["addresses"]:
            if address["type"] == "InternalIP":
                return f"http://{address['address']}:{layout.MINIO_NODE_PORT}"
        raise ClusterError("the first node has no InternalIP: set SHOAL_ENDPOINT_URL")

    def up(self) -> None:
        """See that it answers; nothing is changed."""
        if not self.kubeconfig.is_file():
            raise ClusterError(f"SHOAL_KUBECONFIG names {self.kubeconfig}, which is no file")
        self.build()
        ailing = [name for name, _, well in self.report() if not well]
        if ailing:
            raise ClusterError(f"the named cluster's nodes {', '.join(ailing)} are not Ready")
        say("  reachable; its images come from its own registries")

    def down(self) -> None:
        """Leave it as it is."""
        say("  not ours to take down: left as it is")

    def build(self) -> None:
        """The programs that the tests and the demo call, where the machine has none."""
        absent = [tool for tool in binaries.tools() if commands.find(tool.name) is None]
        binaries.build(self.folders, absent)

    def load(self, archive: Path) -> None:
        """Raises ClusterError: images get there through registries."""
        raise ClusterError(
            f"{archive.name} can't be loaded into a cluster that SHOAL_KUBECONFIG names: push its "
            "image to a registry that the cluster reads"
        )

    def report(self) -> list[tuple[str, str, bool]]:
        """Each node, its version, and whether it is Ready."""
        rows = []
        for node in self._nodes():
            version = node["status"]["nodeInfo"]["kubeletVersion"]
            rows.append((node["metadata"]["name"], f"Kubernetes {version}", is_ready(node)))
        return rows

    def stop_node(self, name: str) -> None:
        """Raises ClusterError."""
        raise ClusterError(f"{name} belongs to a cluster that is not ours: not stopped")

    def start_node(self, name: str) -> None:
        """Raises ClusterError."""
        raise ClusterError(f"{name} belongs to a cluster that is not ours: not started")

    @property
    def faults(self) -> Faults:
        """Raises ClusterError."""
        raise ClusterError("the cluster is not ours: nothing of it is hurt")

    def _nodes(self) -> list[dict[str, Any]]:
        kubectl = commands.find("kubectl") or str(self.folders.bin / "kubectl")
        ask = [kubectl, "--kubeconfig", self.kubeconfig, "get", "nodes", "-o", "json"]
        items: list[dict[str, Any]] = json.loads(commands.output(ask, timeout=30))["items"]
        return items
