"""Where things are kept: the user's cache folder, and the one folder under ``/run``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
REPOSITORY = SOURCE.parent


@dataclass(frozen=True)
class Folders:
    """All paths follow from one cache folder, so that two checkouts share their binaries."""

    cache: Path

    @property
    def mark(self) -> str:
        """The cluster's name on the machine; another cache's cluster is never taken for it."""
        return f"shoal-{hashlib.sha256(str(self.cache).encode()).hexdigest()[:8]}"

    @property
    def run(self) -> Path:
        """Sockets and mounts; short, as a Unix socket's path has 107 characters at most."""
        return Path("/run") / self.mark

    @property
    def buildah_run(self) -> Path:
        """What buildah keeps only while the machine runs."""
        return Path("/run") / f"{self.mark}-buildah"

    def cgroup(self, node: str) -> str:
        """Each kubelet has a tree of its own, or each would clear away the other's Pods."""
        return f"{self.mark}/{node}"

    @property
    def bin(self) -> Path:
        """Programs; resolved, as ``/proc`` tells a program by its file and not by a link to it."""
        return (self.cache / "bin").resolve()

    @property
    def images(self) -> Path:
        """Archives of images."""
        return self.cache / "images"

    @property
    def buildah(self) -> Path:
        """Images that further images are built from."""
        return self.cache / "buildah"

    @property
    def state(self) -> Path:
        """State of the running cluster: wiped by `down`."""
        return self.cache / "cluster"

    @property
    def content(self) -> Path:
        """What each node's containerd keeps (images): stays after `down`."""
        return self.cache / "containerd"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cache / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held by the command that changes the cluster."""
        return self.cache / "lock"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        """One log for each component."""
        return self.state / "logs"

    @property
    def config(self) -> Path:
        """What the components read."""
        return self.state / "config"

    def node_state(self, node: str) -> Path:
        """What kubelet and the CNI plugins keep for one node."""
        return self.state / node

    def node_content(self, node: str) -> Path:
        """What one node's containerd keeps."""
        return self.content / node

    def node_run(self, node: str) -> Path:
        """One node's sockets and mounts."""
        return self.run / node

    def containerd_socket(self, node: str) -> Path:
        """Where one node's containerd listens."""
        return self.node_run(node) / "containerd.sock"


def from_environment(environ: dict[str, str] | None = None) -> Folders:
    """``SHOAL_CACHE``, else ``shoal`` in the user's cache folder (``XDG_CACHE_HOME``)."""
    env = os.environ if environ is None else environ
    named = env.get("SHOAL_CACHE")
    if named:
        return Folders(Path(named).expanduser().resolve())
    home = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", "~"), ".cache")
    return Folders(Path(home).expanduser().resolve() / "shoal")
