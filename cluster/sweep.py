"""Taking the embedded cluster away: no process, mount, device, namespace, group or rule stays."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from cluster import cgroups, components, layout, network, nodes, processes
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.kernel import restore
from cluster.pki import Pki

#: Folders outside ours where kubelet, the CNI plugins and containerd's shims keep things, whatever
#: they are told; those that are empty then go too.
KUBELET_DEVICES = Path("/var/lib/kubelet/device-plugins")
CONTAINER_LOGS = Path("/var/log/containers")
CNI_RESULTS = Path("/var/lib/cni/results")
SHIM_SOCKETS = Path("/run/containerd/s")
#: kubelets first, so that they don't start again what is ended next; the store last.
ENDING = (
    "kubelet",
    "containerd",
    "kube-proxy",
    "coredns",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
)


def sweep(folders: Folders) -> None:
    """Take away everything but binaries and images; safe to repeat, whatever is left of it.

    Raises ClusterError where the network belongs to a cluster of another cache.
    """
    check_alone(folders)
    pki = Pki(folders.pki)
    order = components.everything(folders, pki)
    for component in sorted(order, key=_ending):
        while processes.find(component) is not None:
            processes.stop(component, within=5)
    for node in layout.NODES:
        nodes.clear_runtime(folders, node)
    cgroups.kill(folders.mark)
    cgroups.remove(folders.mark)
    network.take_down()
    restore(folders)
    clear_outside(folders)
    for folder in (folders.run, folders.buildah_run):
        shutil.rmtree(folder, ignore_errors=True)
    if folders.state.exists():
        shutil.rmtree(folders.state)
    folders.kubeconfig.unlink(missing_ok=True)


def check_alone(folders: Folders) -> None:
    """Another cache's cluster on the same network has the same bridge and addresses."""
    ours = components.apiserver(folders, Pki(folders.pki))
    address = f"--bind-address={layout.HOST_ADDRESS}"
    for pid, program, arguments in processes.running():
        if Path(program).name != ours.program.name or address not in arguments:
            continue
        if ours.mark not in arguments and processes.shares_network(pid):
            raise ClusterError(
                f"a cluster of another cache folder runs on this machine ({program}, pid {pid}): "
                "take it down first, with SHOAL_CACHE naming its folder"
            )


def _ending(component: Component) -> int:
    return ENDING.index(component.name.split()[0])


def clear_outside(folders: Folders) -> None:
    """Files in the machine's own folders that are ours, by what they point to or contain."""
    for link in _entries(CONTAINER_LOGS):
        if link.is_symlink() and link.readlink().is_relative_to(folders.state):
            link.unlink()
    for result in _entries(CNI_RESULTS):
        if str(folders.run) in result.read_text(errors="replace"):
            result.unlink()
    for path in (*_entries(KUBELET_DEVICES), *_entries(SHIM_SOCKETS)):
        if path.is_socket() and not _has_listener(path):
            path.unlink()
    for folder in (KUBELET_DEVICES, CONTAINER_LOGS, CNI_RESULTS, SHIM_SOCKETS):
        _remove_when_empty(folder)
    for folder in (KUBELET_DEVICES.parent, CNI_RESULTS.parent, SHIM_SOCKETS.parent):
        _remove_when_empty(folder)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _has_listener(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def _remove_when_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


def remains(folders: Folders) -> list[str]:
    """What a sweep should have taken away and did not."""
    found = [
        f"process {pid} ({component.name})"
        for component in components.everything(folders, Pki(folders.pki))
        if (pid := processes.find(component)) is not None
    ]
    found += [f"mount {point}" for point in nodes.mounts_below([folders.run, folders.cache])]
    found += [f"network: {name}" for name in network.remains()]
    found += [f"cgroup {path}" for path in cgroups.remains(folders.mark)]
    return found
