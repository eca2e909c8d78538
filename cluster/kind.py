"""A kind cluster, of the nodes in the repository's ``kind-config.yaml``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import binaries, commands, images, layout
from cluster.errors import ClusterError
from cluster.faults import Faults
from cluster.folders import REPOSITORY, SOURCE, Folders
from cluster.health import is_ready
from cluster.steps import say, step

NAME = "shoal"
CONFIG = REPOSITORY / "kind-config.yaml"


@dataclass(frozen=True)
class Kind:
    """Two nodes as containers of the Docker engine."""

    folders: Folders

    @property
    def kubeconfig(self) -> Path:
        """kind's, kept in the cache."""
        return self.folders.kubeconfig

    @property
    def endpoint(self) -> str:
        """The port that kind-config.yaml maps."""
        return f"http://{layout.LOOPBACK}:{layout.MINIO_NODE_PORT}"

    def up(self) -> None:
        """Create the cluster, or start the one that there is, and load its images."""
        self.build()
        if NAME in commands.output(["kind", "get", "clusters"]).split():
            for name in self._containers():
                commands.run(["docker", "start", name])
            say("  kind cluster `shoal` is there: used as it is")
        else:
            with step("creating the kind cluster `shoal`"):
                create = ["kind", "create", "cluster", "--name", NAME, "--wait", "180s"]
                own = ["--config", CONFIG, "--kubeconfig", self.kubeconfig]
                self.folders.cache.mkdir(parents=True, exist_ok=True)
                commands.run([*create, *own])
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(commands.output(["kind", "get", "kubeconfig", "--name", NAME]))
        for image in images.table()[1:]:
            with step(f"loading {image.reference}"):
                self._load_reference(image.reference)

    def down(self) -> None:
        """Delete it."""
        with step("deleting the kind cluster `shoal`"):
            commands.run(["kind", "delete", "cluster", "--name", NAME])
        self.kubeconfig.unlink(missing_ok=True)

    def build(self) -> None:
        """Python's images are pulled; MinIO's is built as the embedded cluster builds it."""
        absent = [tool for tool in binaries.tools() if commands.find(tool.name) is None]
        binaries.build(self.folders, absent)
        for image in images.table()[1:]:
            if commands.run(
                ["docker", "image", "inspect", image.reference], check=False
            ).returncode:
                with step(f"getting image {image.reference}"):
                    self._get(image)

    def load(self, archive: Path) -> None:
        """Import the archive into the nodes."""
        with step(f"loading {archive.name} into the kind nodes"):
            commands.run(["kind", "load", "image-archive", archive, "--name", NAME])

    def report(self) -> list[tuple[str, str, bool]]:
        """Each node, its version, and whether it is Ready."""
        if NAME not in commands.output(["kind", "get", "clusters"]).split():
            return [("kind cluster `shoal`", "not there", False)]
        kubectl = commands.find("kubectl") or str(self.folders.bin / "kubectl")
        ask = [kubectl, "--kubeconfig", self.kubeconfig, "get", "nodes", "-o", "json"]
        nodes: list[dict[str, Any]] = json.loads(commands.output(ask, timeout=30))["items"]
        return [
            (
                node["metadata"]["name"],
                f"Kubernetes {node['status']['nodeInfo']['kubeletVersion']}",
                is_ready(node),
            )
            for node in nodes
        ]

    def stop_node(self, name: str) -> None:
        """Kill the node's container."""
        with step(f"killing {self._container(name)}"):
            commands.run(["docker", "kill", self._container(name)])

    def start_node(self, name: str) -> None:
        """Start the node's container."""
        with step(f"starting {self._container(name)}"):
            commands.run(["docker", "start", self._container(name)])

    @property
    def faults(self) -> Faults:
        """Raises ClusterError: its components are Pods inside the nodes' containers."""
        raise ClusterError("only the embedded cluster can be hurt so: set SHOAL_CLUSTER=embedded")

    def _get(self, image: images.Image) -> None:
        if image.name == "minio":
            dockerfile = SOURCE / "minio.Dockerfile"
            context = SOURCE / "modules" / "minio"
            build = ["docker", "build", "-q", "-t", image.reference, "-f", dockerfile, context]
            commands.run(build)
        else:
            commands.run(["docker", "pull", "-q", image.reference])

    def _load_reference(self, reference: str) -> None:
        commands.run(["kind", "load", "docker-image", reference, "--name", NAME])

    def _containers(self) -> list[str]:
        return commands.output(["kind", "get", "nodes", "--name", NAME]).split()

    def _container(self, name: str) -> str:
        """`node-2` is the embedded cluster's name for what kind calls the worker."""
        names = {"node-1": f"{NAME}-control-plane", "node-2": f"{NAME}-worker"}
        if name not in names and name not in names.values():
            raise ClusterError(f"no node {name!r}; there are {', '.join(names)}")
        return names.get(name, name)
