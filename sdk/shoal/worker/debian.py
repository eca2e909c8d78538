"""Debian packages without root: apt fetches them, dpkg unpacks them below a folder.

Both work on folders of our own; no package's own scripts are run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence

from .tools import BuildFailed, run

HINT = (
    "name sources that Pods can reach: SHOAL_DEBIAN_SOURCES where you submit, softwareSources, or "
    "the chart's environments.debianSources"
)


def install(
    packages: Sequence[str], sources: Sequence[str], target: str, *, quiet: bool = False
) -> None:
    """Unpack packages, and what they need beyond the image, below `target`.

    `sources` are lines of a sources.list; none means the image's. `quiet` tells errors only.

    Raises:
        BuildFailed: with the words of apt or dpkg; or the image has neither.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        raise BuildFailed(
            f"{', '.join(packages)}: the image has no apt: name one that is made of Debian"
        )
    with tempfile.TemporaryDirectory(dir=os.environ["SHOAL_SCRATCH"]) as work:
        archives = os.path.join(work, "cache", "archives")
        for name in (os.path.join(work, "state", "lists"), archives):
            os.makedirs(os.path.join(name, "partial"))
        options = _options(work, sources)
        options.append("-qq" if quiet else "--quiet")
        run(apt, *options, "update", hint=HINT)
        how = ("--download-only", "--no-install-recommends", "--yes")
        run(apt, *options, "install", *how, "--", *packages)
        os.makedirs(target, exist_ok=True)
        for name in sorted(os.listdir(archives)):
            if name.endswith(".deb"):
                run(dpkg, "--extract", os.path.join(archives, name), target)


def _options(work: str, sources: Sequence[str]) -> list[str]:
    options = {
        "Dir::State": os.path.join(work, "state"),
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": os.path.join(work, "cache"),
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
    }
    if sources:
        path = os.path.join(work, "sources.list")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(sources) + "\n")
        options.update({"Dir::Etc::sourcelist": path, "Dir::Etc::sourceparts": "/dev/null"})
    return [word for pair in options.items() for word in ("-o", "=".join(pair))]
