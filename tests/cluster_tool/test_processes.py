"""Which process is the cluster's own: only one with its program and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.components import Component
from cluster.folders import Folders

from cluster import cgroups, kernel, nodes, processes

ETCD = Component(
    name="etcd",
    program=Path("/usr/bin/etcd"),
    arguments=("--data-dir=/cache/etcd",),
    mark="--data-dir=/cache/etcd",
)


def process(proc: Path, pid: int, program: str, *arguments: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "exe").symlink_to(program)
    words = "".join(f"{word}\0" for word in (program, *arguments))
    (folder / "cmdline").write_bytes(words.encode())


def test_a_process_is_found_by_program_and_folder(tmp_path: Path) -> None:
    process(tmp_path, 10, "/usr/bin/etcd", "--data-dir=/cache/etcd", "--logger=zap")
    assert processes.find(ETCD, tmp_path) == 10


def test_the_same_program_with_another_folder_is_a_stranger(tmp_path: Path) -> None:
    process(tmp_path, 10, "/usr/bin/etcd", "--data-dir=/var/lib/etcd")
    process(tmp_path, 11, "/usr/bin/etcd", "--data-dir=/cache/etcd-of-another")
    assert processes.find(ETCD, tmp_path) is None


def test_another_program_that_names_the_folder_is_a_stranger(tmp_path: Path) -> None:
    process(tmp_path, 10, "/usr/bin/vim", "--data-dir=/cache/etcd")
    assert processes.find(ETCD, tmp_path) is None


def test_a_process_whose_program_was_built_anew_is_still_ours(tmp_path: Path) -> None:
    process(tmp_path, 10, "/usr/bin/etcd (deleted)", "--data-dir=/cache/etcd")
    assert processes.find(ETCD, tmp_path) == 10


def test_mounts_are_found_deepest_first_and_only_below(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "tmpfs /run/shoal tmpfs rw 0 0\n"
        "overlay /run/shoal/a/rootfs overlay rw 0 0\n"
        "tmpfs /run/shoal-of-another tmpfs rw 0 0\n"
        "tmpfs /run/shoal/with\\040space tmpfs rw 0 0\n"
    )
    found = nodes.mounts_below([Path("/run/shoal")], table)
    assert found == ["/run/shoal/with space", "/run/shoal/a/rootfs", "/run/shoal"]


def test_a_cgroup_is_made_with_its_processors_in_every_hierarchy(tmp_path: Path) -> None:
    for name in ("cpuset", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text("")
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpuset", tmp_path / "memory"]
    cgroups.make("shoal/node-1", tmp_path)
    assert (tmp_path / "memory/shoal/node-1").is_dir()
    cgroups.remove("shoal", tmp_path)
    assert cgroups.remains("shoal", tmp_path) == []


def test_kernel_settings_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "sys"
    for name in ("net/bridge", "fs/inotify", "vm"):
        (root / name).mkdir(parents=True)
    instances = root / "fs/inotify/max_user_instances"
    overcommit = root / "vm/overcommit_memory"
    (root / "net/bridge/bridge-nf-call-iptables").write_text("0\n")
    instances.write_text("128\n")
    overcommit.write_text("0\n")
    monkeypatch.setattr(Folders, "run", property(lambda self: tmp_path / "run"))
    folders = Folders(tmp_path)

    kernel.prepare(folders, root=root)
    assert instances.read_text() == "8192\n"
    overcommit.write_text("1\n")  # as kubelet does
    kernel.prepare(folders, root=root)  # a second start remembers the first's record
    kernel.restore(folders, root=root)

    assert (instances.read_text(), overcommit.read_text()) == ("128\n", "0\n")
