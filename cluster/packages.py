"""Debian packages that the embedded cluster stands on, installed only where they are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import commands, pinned
from cluster.errors import MissingTool
from cluster.steps import say, step


def missing(*, building: bool) -> list[str]:
    """Names of packages whose programs or files are not on this machine, in a stable order."""
    debian = pinned.versions()["debian"]
    programs = dict(debian["programs"])
    if building:
        programs |= debian["build-programs"]
    absent = {package for program, package in programs.items() if commands.find(program) is None}
    absent |= {package for file, package in debian["files"].items() if not Path(file).exists()}
    return sorted(absent)


def install(*, building: bool) -> None:
    """Install what is missing.

    Raises MissingTool where there is no apt or the caller may not install.
    """
    names = missing(building=building)
    if not names:
        return
    wanted = " ".join(names)
    if commands.find("apt-get") is None or os.geteuid() != 0:
        raise MissingTool(f"install these Debian packages first: {wanted}")
    say(f"  missing Debian packages: {wanted}")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with step("apt-get update"):
        commands.run(["apt-get", "update", "-q"], environment=environment)
    with step(f"apt-get install {wanted}"), _no_services_started():
        commands.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *names],
            environment=environment,
        )


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian starts the services that it installs; the cluster runs its own etcd and containerd."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
