"""Builds an environment: what the Job of a builder Pod calls, once for all workers.

The environment is made at the very path where workers unpack it, since scripts in it name that
path. The tools are uv, which the operator serves, and the image's apt and git; their words go to
the Job's output. What comes of it is one archive in the bucket; only its key, digest and size are
the Job's result.
"""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import sys
import tarfile
from collections.abc import Iterable
from typing import Any

from . import PROTOCOL, checkout, debian, poetry_lock
from .environment import digest, folder, offer, software_folder, source_folder
from .objects import ObjectError, Objects, Rejected
from .tools import BuildFailed, Patience, run
from .transport import Refused, Unreachable, line_from_environment

INDEX_HINT = (
    "name an index that Pods can reach: SHOAL_PACKAGE_INDEX where you submit, an --index-url among "
    "the requirements, or the chart's environments.variables"
)
PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg")


def build(wanted: dict[str, Any], machine: str) -> dict[str, Any]:
    """Install what is `wanted`; return what was made.

    It has ``requirements`` (lines of a requirements.txt), ``software`` (Debian packages),
    ``softwareSources`` (lines of a sources.list; none means the image's), ``git`` (see `checkout`)
    and ``knownHosts``, of which any may be missing. Without requirements the image's own Python
    packages stay visible; where only code is wanted, there is no Python in it at all.

    `machine` is the architecture of the tool that the operator serves, as `platform.machine` says
    it. The result has the archive's ``key``, ``sha256`` and ``size`` in bytes, and the ``python``
    (empty for code alone) and ``machine`` that the environment is for; of a repository also the
    ``commit``, and as ``source`` its folder that goes on sys.path.

    Raises:
        BuildFailed: with the tool's words.
    """
    if platform.machine() != machine:
        raise BuildFailed(
            f"this node is {platform.machine()}, the operator's node is {machine}: "
            "environments are built where both are the same"
        )
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
        made["commit"] = checkout.check_out(git, source_folder(), known_hosts, sources)
        made["source"] = _folder_in(source_folder(), git.get("path") or ".")
    if set(wanted) - {"git", "knownHosts", "softwareSources"} or git.get("packages"):
        _install(wanted.get("requirements") or [], git, sources)
        made["python"] = platform.python_version()
    archive = os.path.join(os.environ["SHOAL_SCRATCH"], "environment.tar.gz")
    made["sha256"] = _pack(target, archive)
    made["size"] = os.path.getsize(archive)
    print(f"packed: {made['size'] / 1e6:.1f} MB")
    return {**made, "key": _upload(archive)}


def _folder_in(source: str, path: str) -> str:
    if not os.path.isdir(os.path.join(source, path)):
        raise BuildFailed(f"the repository has no folder {path}")
    return path


def _install(requirements: list[str], git: dict[str, Any], sources: list[str]) -> None:
    """Make the virtual environment, and install packages in it."""
    from_file = git.get("packages")
    wants = bool(requirements or from_file)
    _fetch_uv()
    shown = () if wants else ("--system-site-packages",)
    _uv("venv", "--quiet", "--allow-existing", *shown, "--python", sys.executable, folder())
    if not wants:
        return
    if any("git+" in line for line in requirements):
        checkout.offer_git(sources)
    path = _written("requirements.txt", requirements)
    options = ["--requirement", path]
    if from_file:
        options += ["--requirement", _requirements_of(from_file, sources)]
    _pip_install("--compile-bytecode", *options)
    if not from_file or not git.get("editable"):
        return
    project = os.path.normpath(os.path.join(source_folder(), from_file["path"]))
    project = project if os.path.isdir(project) else os.path.dirname(project)
    if any(os.path.exists(os.path.join(project, name)) for name in PROJECTS):
        index = [word for line in requirements if line.startswith("-") for word in line.split()]
        _pip_install(*index, "--editable", project)


def _requirements_of(packages: dict[str, str], sources: list[str]) -> str:
    """Return the path of a requirements.txt with what a file of the repository says."""
    path = os.path.normpath(os.path.join(source_folder(), packages["path"]))
    kind = packages["format"]
    if not os.path.exists(path):
        raise BuildFailed(f"the repository has no {packages['path']}")
    if kind == "uv":
        target = _written("exported.txt", [])
        how = ("--frozen", "--no-emit-workspace", "--no-default-groups", "--no-header")
        _uv("export", *how, "--quiet", "--no-annotate", "--project", path, "--output-file", target)
        path = target
    elif kind == "poetry":
        try:
            path = _written("locked.txt", poetry_lock.read(path))
        except ValueError as error:
            raise BuildFailed(str(error)) from error
    if os.path.isdir(path):
        raise BuildFailed(f"{packages['path']} is a folder of the repository: name the file")
    with open(path, encoding="utf-8") as file:
        if "git+" in file.read():
            checkout.offer_git(sources)
    return path


def _written(name: str, lines: Iterable[str]) -> str:
    path = os.path.join(os.environ["SHOAL_SCRATCH"], name)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def _pip_install(*options: str) -> None:
    python = os.path.join(folder(), "bin", "python")
    _uv("pip", "install", "--python", python, *options, hint=INDEX_HINT)


def _uv(*argv: str, hint: str = "") -> None:
    try:
        run(
            _path_of_uv(),
            *argv,
            hint=hint,
            folder=source_folder() if os.path.isdir(source_folder()) else None,
            UV_CACHE_DIR=os.path.join(os.environ["TMPDIR"], "uv-cache"),
            UV_LINK_MODE="copy",
            UV_PYTHON_DOWNLOADS="never",
            UV_NO_PROGRESS="1",
        )
    except FileNotFoundError:
        raise BuildFailed(
            "uv can't run in this image, whose C library is another one than the operator's image "
            "has (Alpine?): name an image with glibc"
        ) from None


def _path_of_uv() -> str:
    return os.path.join(os.environ["SHOAL_SCRATCH"], "uv")


def _fetch_uv() -> None:
    line, patience = line_from_environment(PROTOCOL), Patience()
    while True:
        try:
            with open(_path_of_uv(), "wb") as file:
                line.fetch("/v1/uv", file)
            break
        except (Unreachable, Refused) as error:
            patience.pause(error)
    os.chmod(_path_of_uv(), 0o755)


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
