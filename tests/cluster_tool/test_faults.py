"""Which processes a fault reaches: a Pod's own, by depth, and never what holds its sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.errors import ClusterError
from cluster.faults import Faults
from cluster.folders import Folders

from cluster import faults

UID = "0f1e"


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Folders, Path, Path]:
    """A Pod with a sandbox (10), a first process (20), its child (21) and a grandchild (22)."""
    folders, root, proc = Folders(tmp_path / "cache"), tmp_path / "cgroup", tmp_path / "proc"
    pod = f"{folders.mark}/node-1/kubepods/burstable/pod{UID}"
    for hierarchy in ("memory", "pids"):
        for name, pids in (("sandbox", "10\n"), ("container", "20\n21\n22\n")):
            (root / hierarchy / pod / name).mkdir(parents=True)
            (root / hierarchy / pod / name / "cgroup.procs").write_text(pids)
        (root / hierarchy / "cgroup.procs").write_text("")
    for pid, parent, program in (
        (10, 1, "/pause"),
        (20, 1, "/usr/bin/python3"),
        (21, 20, "/usr/bin/python3"),
        (22, 21, "/usr/bin/python3"),
    ):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "exe").symlink_to(program)
        (proc / str(pid) / "stat").write_text(f"{pid} (a (strange) name) S {parent} 0 0")
    return folders, root, proc


def test_processes_of_a_pod_have_their_depth(machine: tuple[Folders, Path, Path]) -> None:
    folders, root, proc = machine
    found = faults.processes_of_pod(folders, UID, root=root, proc=proc)
    assert sorted(found) == [(0, 20), (1, 21), (2, 22)]


def test_processes_of_other_pods_are_left_alone(machine: tuple[Folders, Path, Path]) -> None:
    folders, root, proc = machine
    assert faults.processes_of_pod(folders, "0f1", root=root, proc=proc) == []
    other = Folders(folders.cache.parent / "another")
    assert faults.processes_of_pod(other, UID, root=root, proc=proc) == []


def test_an_unknown_component_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"kube-apiserver, .*kubelet-node-2"):
        Faults(Folders(tmp_path)).pause("apiserver")
