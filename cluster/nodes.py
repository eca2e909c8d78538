"""What a node's containerd holds: its images, and the containers of its Pods."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

from cluster import cgroups, commands, components, processes
from cluster.archive import references
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.layout import Node

SHIM = "containerd-shim"
NAMESPACE = "k8s.io"


def ctr(folders: Folders, node: Node, *words: str | Path) -> str:
    """What containerd's own client printed."""
    address = folders.containerd_socket(node.name)
    return commands.output(["ctr", "-a", address, "-n", NAMESPACE, *words], timeout=300)


def kill_containers(folders: Folders, node: Node) -> None:
    """Kill every process of the node's Pods and the shims above them."""
    socket = str(folders.containerd_socket(node.name))
    for pid, program, arguments in processes.running():
        if Path(program).name.startswith(SHIM) and socket in arguments:
            _kill(pid)
    cgroups.kill(folders.cgroup(node.name))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def unmount_below(folders: list[Path]) -> None:
    """Unmount all that lies at or below `folders`, the deepest first, until nothing does."""
    while points := mounts_below(folders):
        for point in points:
            commands.run(["umount", "-l", point], check=False)
        if mounts_below(folders) == points:
            raise ClusterError(f"can't unmount {points[0]}")


def mounts_below(folders: list[Path], table: Path = Path("/proc/self/mounts")) -> list[str]:
    """Mount points at or below `folders`, the deepest first."""
    points = []
    for line in table.read_text().splitlines():
        point = line.split()[1].encode().decode("unicode_escape")
        if any(Path(point).is_relative_to(folder) for folder in folders):
            points.append(point)
    return sorted(points, reverse=True)


def clear_runtime(folders: Folders, node: Node) -> None:
    """Leave nothing of the node's Pods on the machine; containerd and kubelet must not run.

    Network namespaces are mounts under the node's run folder; the last unmount ends them, and with
    them the Pods' devices.
    """
    kill_containers(folders, node)
    unmount_below([folders.node_run(node.name), folders.node_content(node.name)])
    unmount_below([folders.node_state(node.name)])
    shutil.rmtree(folders.node_run(node.name), ignore_errors=True)


def has_containers(folders: Folders, node: Node) -> bool:
    """Whether containerd knows of any container."""
    return bool(ctr(folders, node, "containers", "list", "-q").split())


def forget_containers(folders: Folders, node: Node) -> None:
    """Remove all containers from containerd's book, with their snapshots; no process is left."""
    if names := ctr(folders, node, "containers", "list", "-q").split():
        ctr(folders, node, "containers", "delete", *names)


def is_loaded(folders: Folders, node: Node, archive: Path) -> bool:
    """Whether this very file was imported and its images are still there."""
    loaded = _loaded(folders, node)
    digest = file_digest(archive)
    if digest not in loaded:
        return False
    present = ctr(folders, node, "images", "list", "-q").split()
    return set(loaded[digest]).issubset(present)


def load(folders: Folders, node: Node, archive: Path) -> None:
    """Import `archive`, unless that was done before."""
    if is_loaded(folders, node, archive):
        return
    names = references(archive)
    ctr(folders, node, "images", "import", archive)
    # Another archive's image of the same name is replaced now: that one is not loaded any more.
    kept = {d: n for d, n in _loaded(folders, node).items() if not set(n) & set(names)}
    record = {**kept, file_digest(archive): names}
    _record(folders, node).write_text(json.dumps(record, indent=1))


def _loaded(folders: Folders, node: Node) -> dict[str, list[str]]:
    record = _record(folders, node)
    return json.loads(record.read_text()) if record.exists() else {}


def _record(folders: Folders, node: Node) -> Path:
    return folders.node_content(node.name) / "loaded.json"


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stop(folders: Folders, node: Node) -> None:
    """Take the node's power away: kubelet, containers and containerd are killed, none is asked."""
    for component in reversed(components.of_node(folders, node)):
        processes.stop(component, force=True)
    clear_runtime(folders, node)
