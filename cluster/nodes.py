"""What a node's containerd holds: its images, and the containers of its Pods."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

from cluster import cgroups, commands, components, processes
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.layout import Node

SHIM = "containerd-shim"
NAMESPACE = "k8s.io"


def ctr(folders: Folders, node: Node, *words: str | Path) -> str:
    address = folders.containerd_socket(node.name)
    return commands.output(["ctr", "-a", address, "-n", NAMESPACE, *words], timeout=300)


def kill_containers(folders: Folders, node: Node) -> None:
    """Kill every process of the node's Pods and the shims above them."""
    socket = str(folders.containerd_socket(node.name))
    for pid, program, arguments in processes.running():
        if Path(program).name.startswith(SHIM) and socket in arguments:
            _kill(pid)
    cgroups.kill(node.cgroup)


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
    return bool(ctr(folders, node, "containers", "list", "-q").split())


def forget_containers(folders: Folders, node: Node) -> None:
    """Remove all containers from containerd's book, with their snapshots; no process is left."""
    for name in ctr(folders, node, "containers", "list", "-q").split():
        ctr(folders, node, "containers", "delete", name)


def load(folders: Folders, node: Node, archive: Path) -> bool:
    """Import `archive`, unless this very file was imported and its images are still there."""
    record = folders.node_content(node.name) / "loaded.json"
    loaded: dict[str, list[str]] = json.loads(record.read_text()) if record.exists() else {}
    digest = file_digest(archive)
    present = set(ctr(folders, node, "images", "list", "-q").split())
    if digest in loaded and present.issuperset(loaded[digest]):
        return False
    text = ctr(folders, node, "images", "import", archive)
    # ctr says `unpacking docker.io/library/name:tag (sha256:...)...done` for each image.
    names = [line.split()[1] for line in text.splitlines() if line.startswith("unpacking ")]
    if not names:
        raise ClusterError(f"{archive} holds no image that containerd can read: {text}")
    # Another archive's image of the same name is replaced now: that archive is not loaded any more.
    kept = {key: value for key, value in loaded.items() if not set(value) & set(names)}
    record.write_text(json.dumps({**kept, digest: names}, indent=1))
    return True


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stop(folders: Folders, node: Node) -> None:
    """Take the node's power away: kubelet, containers and containerd are killed, none is asked."""
    for component in reversed(components.of_node(folders, node)):
        processes.stop(component, force=True)
    clear_runtime(folders, node)
