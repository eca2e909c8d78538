"""Control groups: one tree for each node, under the cluster's own, in cgroup v1 and v2."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def is_unified(root: Path = ROOT) -> bool:
    """Whether this is cgroup v2."""
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The roots of all mounted hierarchies; one in cgroup v2."""
    if is_unified(root):
        return [root]
    return sorted(path for path in root.iterdir() if (path / "cgroup.procs").exists())


def make(path: str, root: Path = ROOT) -> None:
    """Make group `path` and those above it in every hierarchy, ready to have children."""
    for hierarchy in hierarchies(root):
        above = hierarchy
        for part in path.split("/"):
            if is_unified(root):
                _pass_controllers(above)
            below = above / part
            below.mkdir(exist_ok=True)
            # cgroup v1: a cpuset is empty at first, and an empty one can hold no process.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (below / name).exists() and not (below / name).read_text().strip():
                    (below / name).write_text((above / name).read_text())
            above = below
        if is_unified(root):
            _pass_controllers(above)


def _pass_controllers(group: Path) -> None:
    there = (group / "cgroup.controllers").read_text().split()
    for controller in CONTROLLERS:
        if controller in there:
            (group / "cgroup.subtree_control").write_text(f"+{controller}\n")


def processes(path: str, root: Path = ROOT) -> set[int]:
    """All processes at or below group `path`."""
    found: set[int] = set()
    for hierarchy in hierarchies(root):
        for file in (hierarchy / path).rglob("cgroup.procs"):
            try:
                found |= {int(pid) for pid in file.read_text().split()}
            except OSError:
                continue  # the group went meanwhile, or holds threads only
    return found


def kill(path: str, root: Path = ROOT, *, within: float = 20) -> None:
    """Kill all processes at or below `path`, until there is none.

    They are stopped first, so that none is there to tell of another's end.
    """
    until = time.monotonic() + within
    while left := processes(path, root) - {0, os.getpid()}:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
        if time.monotonic() > until:
            raise TimeoutError(f"processes {sorted(left)} of cgroup {path} don't end")
        time.sleep(0.05)


def remove(path: str, root: Path = ROOT) -> None:
    """Remove group `path` with all below it; no process may be left in them."""
    for hierarchy in hierarchies(root):
        top = hierarchy / path
        below = sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True)
        for group in [*below, top]:
            _remove_one(group)


def _remove_one(group: Path) -> None:
    for _ in range(40):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)  # the kernel counts a killed process for a moment


def remains(path: str, root: Path = ROOT) -> list[str]:
    """Where group `path` is still there."""
    return [str(h / path) for h in hierarchies(root) if (h / path).exists()]
