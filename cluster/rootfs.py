"""A small Debian system with its Python, as an image's layer.

debootstrap fills a folder with packages whose signatures it has checked; what a container never
reads (documentation, translations, package lists) is left out.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from cluster import commands
from cluster.folders import Folders

PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/zoneinfo/right",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
    "tmp",
)
KEPT_EMPTY = {"tmp": 0o1777, "var/log": 0o755, "var/cache/apt/archives/partial": 0o755}
#: Raised when this module would make something else of the same packages.
EDITION = "1"


def fingerprint(suite: str) -> str:
    """Changes when the layer would."""
    parts = [EDITION, suite, *PACKAGES, *LEFT_OUT]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def python_layer(folders: Folders, suite: str, target: Path) -> str:
    """Write the system of Debian's `suite` as a tar to `target`; return its Python's version."""
    with tempfile.TemporaryDirectory(dir=folders.images) as scratch:
        root = Path(scratch) / "root"
        include = f"--include={','.join(PACKAGES)}"
        source = mirror()
        commands.run(
            [
                *("debootstrap", "--variant=minbase", "--force-check-gpg", include, suite, root),
                *([source] if source else []),
            ]
        )
        tell = "import platform; print(platform.python_version())"
        version = commands.output(["chroot", root, "python3", "-c", tell]).strip()
        trim(root)
        layer_options = ("--numeric-owner", "--sort=name", "--exclude=./dev/*")
        commands.run(["tar", "-C", root, *layer_options, "-cf", target, "."])
    return version


def mirror() -> str:
    """The Debian mirror that this machine uses; empty where it uses none."""
    listing = commands.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"],
        check=False,
    ).stdout
    for line in listing.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    return ""


def trim(root: Path) -> None:
    """Leave out what no container reads, and make `python` and `pip install` work as expected."""
    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    for name, mode in KEPT_EMPTY.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    # The image is one environment as a whole; there is no system to protect from pip.
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (root / "usr/bin/python").symlink_to("python3")
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
