"""Kernel settings: what the cluster needs, and what it and kubelet change, put back by `down`."""

from __future__ import annotations

import json
from pathlib import Path

from cluster import commands
from cluster.errors import MissingTool
from cluster.folders import Folders

ROOT = Path("/proc/sys")

#: Packets between Pods on one bridge must pass kube-proxy's translation, or answers to a Service's
#: caller carry the wrong address. Each follower of a log or a file needs an inotify instance.
NEEDED = {
    "net/bridge/bridge-nf-call-iptables": 1,
    "fs/inotify/max_user_instances": 8192,
}
#: Changed by kubelet, by kube-proxy or by a CNI plugin.
WATCHED = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/vs/conntrack",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
)


def prepare(folders: Folders, *, root: Path = ROOT) -> None:
    """Remember the settings as they are, once, then set what is needed."""
    if not (root / "net/bridge").is_dir():
        commands.run(["modprobe", "br_netfilter"], check=False)
    if not (root / "net/bridge").is_dir():
        raise MissingTool(
            "this kernel does not filter bridged packets: load its module br_netfilter"
        )
    record = _record(folders)
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(_read(root), indent=1))
    for name, value in NEEDED.items():
        path = root / name
        if int(path.read_text()) < value:
            path.write_text(f"{value}\n")


def restore(folders: Folders, *, root: Path = ROOT) -> None:
    """Put back what was remembered."""
    record = _record(folders)
    if not record.exists():
        return
    now = _read(root)
    for name, value in json.loads(record.read_text()).items():
        if now.get(name) not in (None, value):
            (root / name).write_text(f"{value}\n")
    record.unlink()


def _record(folders: Folders) -> Path:
    """Under ``/run``, as the settings themselves last until the machine's restart."""
    return folders.run / "kernel.json"


def _read(root: Path) -> dict[str, str]:
    names = (*WATCHED, *NEEDED)
    return {name: (root / name).read_text().strip() for name in names if (root / name).exists()}
