"""Conda channels that a test makes itself.

`python()` is run in a Pod, too, with this file's text: it makes a package of the Python there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

SUBDIR = "linux-64" if platform.machine() == "x86_64" else f"linux-{platform.machine()}"
PLACEHOLDER = "/a-prefix-that-the-installer-replaces" + "/x" * 20
LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "lib2to3", "ensurepip"}


class Package(NamedTuple):
    """A package's file, and what a channel's list says of it."""

    file: str
    data: bytes
    record: dict[str, object]


def package(
    name: str,
    version: str,
    files: dict[str, bytes],
    *,
    needs: tuple[str, ...] = (),
    subdir: str = "noarch",
    links: dict[str, str] | None = None,
) -> Package:
    """Return a package; one that is noarch has Python modules below site-packages/.

    Text that has `PLACEHOLDER` gets the prefix in its place; what lies in a bin/ can be run.
    """
    index: dict[str, object] = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": list(needs),
        "subdir": subdir,
        **({"noarch": "python"} if subdir == "noarch" else {}),
    }
    paths = []
    for path, data in files.items():
        entry = {"_path": path, "path_type": "hardlink", "size_in_bytes": len(data)}
        if PLACEHOLDER.encode() in data:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
        paths.append(entry)
    paths += [{"_path": path, "path_type": "softlink"} for path in links or {}]
    about = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths_version": 1, "paths": paths}).encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2", compresslevel=1) as archive:
        for path, data in {**about, **files}.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            member.mode = 0o755 if "/bin/" in f"/{path}" else 0o644
            archive.addfile(member, io.BytesIO(data))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    data = buffer.getvalue()
    digests = {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}
    return Package(f"{name}-{version}-0.tar.bz2", data, {**index, **digests, "size": len(data)})


def channel(name: str, *packages: Package) -> dict[str, bytes]:
    """Return a channel's files, each by the parts of its path, between which are underscores."""
    found = {f"{name}_{one.record['subdir']}_{one.file}": one.data for one in packages}
    for subdir in ("noarch", SUBDIR):
        listed = {one.file: one.record for one in packages if one.record["subdir"] == subdir}
        text = json.dumps({"info": {"subdir": subdir}, "packages": listed})
        found[f"{name}_{subdir}_repodata.json"] = text.encode()
    return found


def python() -> Package:
    """Return a package `python` of the Python that runs this: its program and standard library.

    It has its own copies of both, under opt/python, and is no venv of the image's. A pyvenv.cfg
    makes it look for packages in lib/python3.x/site-packages, as conda's own Python does: that of
    Debian looks elsewhere. Shared libraries besides Python's modules are the image's.
    """
    minor = "python{}.{}".format(*sys.version_info[:2])
    library = Path(os.__file__).parent
    files = {
        f"opt/python/bin/{minor}": Path(os.path.realpath(sys.executable)).read_bytes(),
        "pyvenv.cfg": f"home = {PLACEHOLDER}/opt/python/bin\n".encode(),
    }
    for path in sorted(library.rglob("*")):
        parts = path.relative_to(library).parts
        if path.is_file() and not LEFT_OUT & set(parts) and not parts[0].startswith("config-"):
            files["/".join(("opt/python/lib", minor, *parts))] = path.read_bytes()
    links = {f"bin/{name}": f"../opt/python/bin/{minor}" for name in ("python", "python3", minor)}
    version = platform.python_version()
    return package("python", version, files, subdir=SUBDIR, links=links)
