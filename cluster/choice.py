"""Which cluster to use: the one that is named, else kind, else the embedded one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster import commands
from cluster.embedded import Embedded
from cluster.errors import ClusterError, MissingTool
from cluster.faults import Faults
from cluster.folders import Folders
from cluster.kind import Kind
from cluster.named import Named

Row = tuple[str, str, bool]


class Cluster(Protocol):
    """What every kind of cluster can do."""

    @property
    def kubeconfig(self) -> Path:
        """The file that clients use."""
        ...

    @property
    def endpoint(self) -> str:
        """Where MinIO's node port is reached from this machine."""
        ...

    def up(self) -> None:
        """Have a healthy cluster."""
        ...

    def down(self) -> None:
        """Take it away."""
        ...

    def build(self) -> None:
        """Make ready what can be without starting anything."""
        ...

    def load(self, archive: Path) -> None:
        """Import an archive of images into every node."""
        ...

    def report(self) -> list[Row]:
        """Name, what is known of it, and health of each component and node."""
        ...

    def stop_node(self, name: str) -> None:
        """Take a node's power away."""
        ...

    def start_node(self, name: str) -> None:
        """Give it back."""
        ...

    @property
    def faults(self) -> Faults:
        """What tests hurt it with; raises ClusterError where it can't be hurt so."""
        ...


@dataclass(frozen=True)
class Choice:
    """A kind of cluster, and why it is this one."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"cluster: {self.name} ({self.why})"


def choose(environment: Mapping[str, str], *, docker: bool, kind: bool) -> Choice:
    """`docker`: its engine answers; `kind`: the program is there.

    Raises ClusterError for a name in ``SHOAL_CLUSTER`` that is none, MissingTool where kind is
    asked for and can't be.
    """
    if environment.get("SHOAL_KUBECONFIG"):
        return Choice("named", f"SHOAL_KUBECONFIG={environment['SHOAL_KUBECONFIG']}")
    forced = environment.get("SHOAL_CLUSTER", "")
    if forced not in ("", "kind", "embedded"):
        raise ClusterError(f"SHOAL_CLUSTER={forced} is neither `kind` nor `embedded`")
    if forced == "kind" and not (docker and kind):
        lacking = "kind is not installed" if docker else "no Docker engine answers"
        raise MissingTool(f"SHOAL_CLUSTER=kind, but {lacking}")
    if forced:
        return Choice(forced, f"SHOAL_CLUSTER={forced}")
    if docker and kind:
        return Choice("kind", "a Docker engine answers and kind is there")
    lacking = "kind is not installed" if docker else "no Docker engine answers"
    return Choice("embedded", f"SHOAL_KUBECONFIG is not set and {lacking}")


def of_environment() -> Choice:
    """The choice on this machine, from the environment and what is installed."""
    environment = os.environ
    if environment.get("SHOAL_KUBECONFIG") or environment.get("SHOAL_CLUSTER") == "embedded":
        return choose(environment, docker=False, kind=False)
    kind = commands.find("kind") is not None
    return choose(environment, docker=docker_answers(), kind=kind)


def docker_answers() -> bool:
    """Whether a Docker engine answers, not only its client."""
    if commands.find("docker") is None:
        return False
    version = ["docker", "version", "--format", "{{.Server.Version}}"]
    return commands.run(version, check=False, timeout=20).returncode == 0


def make(choice: Choice, folders: Folders) -> Cluster:
    """The chosen cluster."""
    if choice.name == "named":
        return Named(folders, Path(os.environ["SHOAL_KUBECONFIG"]).expanduser().resolve())
    if choice.name == "kind":
        return Kind(folders)
    return Embedded(folders)
