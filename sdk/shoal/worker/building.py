"""Builds an environment: what the Job of a builder Pod calls, once for all workers.

The environment is made at the very path where workers unpack it, since scripts in it name that
path. The tools are uv and py-rattler, which the operator serves, and the image's apt and git; their
words go to the Job's output. What comes of it is one archive in the bucket; only its key, digest
and size are the Job's result.
"""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import tarfile
from typing import Any

from . import PROTOCOL, checkout, debian, installing
from .environment import digest, folder, offer, software_folder, source_folder
from .objects import ObjectError, Objects, Rejected
from .patience import Patience
from .tools import BuildFailed
from .transport import Refused, Unreachable, line_from_environment


def build(wanted: dict[str, Any], machine: str) -> dict[str, Any]:
    """Install what is `wanted`; return what was made.

    It has ``requirements`` (lines of a requirements.txt), ``conda`` (see `conda.command`),
    ``software`` (Debian packages), ``softwareSources`` (lines of a sources.list; none means the
    image's), ``git`` (see `checkout`) and ``knownHosts``, of which any may be missing. Without
    requirements the image's own Python packages stay visible; where only code is wanted, there is
    no Python in it at all.

    `machine` is the architecture of the tool that the operator serves, as `platform.machine` says
    it. The result has the archive's ``key``, ``sha256`` and ``size`` in bytes, and the ``python``
    (empty for code alone) and ``machine`` that the environment is for; of a repository also the
    ``commit``, and as ``source`` its folder that goes on sys.path. ``conda`` is true where the
    Python is one of conda's.

    Raises:
        BuildFailed: with the tool's words.
    """
    if platform.machine() != machine:
        raise BuildFailed(
            f"this node is {platform.machine()}, the operator's node is {machine}: "
            "environments are built where both are the same"
        )
    secrets = checkout.take_secrets()  # before anything runs that is not ours
    target, sources = folder(), wanted.get("softwareSources") or []
    shutil.rmtree(target, ignore_errors=True)  # of an attempt before this one
    os.makedirs(target)
    if wanted.get("software"):
        debian.install(wanted["software"], sources, software_folder())
        offer(software_folder())  # git may be among it, or a library that a package is built with
    made: dict[str, Any] = {"python": "", "machine": machine}
    git = wanted.get("git") or {}
    if git:
        known_hosts = wanted.get("knownHosts") or []
        made["commit"] = checkout.check_out(git, secrets, source_folder(), known_hosts, sources)
        made["source"] = _folder_in(source_folder(), git.get("path") or ".")
    if set(wanted) - {"git", "knownHosts", "softwareSources"} or git.get("packages"):
        made.update(installing.install(wanted, sources))
    archive = os.path.join(os.environ["SHOAL_SCRATCH"], "environment.tar.gz")
    made["sha256"] = _pack(target, archive)
    made["size"] = os.path.getsize(archive)
    print(f"packed: {made['size'] / 1e6:.1f} MB")
    return {**made, "key": _upload(archive)}


def _folder_in(source: str, path: str) -> str:
    if not os.path.isdir(os.path.join(source, path)):
        raise BuildFailed(f"the repository has no folder {path} (path_to_source, git.path)")
    return path


def _pack(source: str, target: str) -> str:
    """Write the folder as a .tar.gz with its last name as its root; return the SHA-256."""
    # without a name and a time, so that the same files give the same bytes
    with open(target, "wb") as file, gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
        _add(source, packed)
    with open(target, "rb") as written:
        return digest(written)


def _add(source: str, packed: gzip.GzipFile) -> None:
    with tarfile.open(fileobj=packed, mode="w|") as archive:
        archive.add(source, os.path.basename(source), filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _upload(path: str) -> str:
    """Put the archive where the dispatcher says; return the key."""
    line, objects, patience = line_from_environment(PROTOCOL), Objects(), Patience()
    while True:
        try:
            granted = line.call("/v1/upload", {"job": os.environ["SHOAL_JOB"]})
            if granted.get("gone"):
                raise BuildFailed("the build is over: nobody waits for it any more")
            objects.put(granted["url"], path)
            return str(granted["key"])
        except Rejected:
            raise
        except (Unreachable, Refused, ObjectError) as error:
            patience.pause(error)
