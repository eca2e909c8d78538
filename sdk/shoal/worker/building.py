"""Builds an environment: what the Job of a builder Pod calls, once for all workers.

The environment is made at the very path where workers unpack it, since scripts in it name that
path. The tools are uv and py-rattler (`conda`), which the operator serves, and the image's apt;
their words go to the Job's output. What comes of it is one archive in the bucket; only its key,
digest and size are the Job's result.
"""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from typing import Any

from . import PROTOCOL, conda
from .environment import PATIENCE, RETRIES, digest, folder, offer_software, software_folder
from .objects import ObjectError, Objects, Rejected
from .transport import Refused, Unreachable, line_from_environment

#: A failure's message ends with so many of the tool's last lines.
LAST_LINES = 20


class BuildFailed(Exception):
    """The tool could not install what was asked for; the message is its last lines."""


def build(wanted: dict[str, Any], machine: str) -> dict[str, Any]:
    """Install what is `wanted`; return what was made.

    It has ``requirements`` (lines of a requirements.txt), ``software`` (Debian packages) and
    ``softwareSources`` (lines of a sources.list; none means the image's), each of them a list that
    may be missing. Without requirements the image's own Python packages stay visible. With
    ``conda`` (see `conda.command`) the requirements are installed beside its packages.

    `machine` is the architecture of the tool that the operator serves, as `platform.machine` says
    it. The result has the archive's ``key``, ``sha256`` and ``size`` in bytes, and the ``python``
    and ``machine`` that the environment is for; ``conda`` is true where that Python is its own.

    Raises:
        BuildFailed: with the tool's words.
    """
    if platform.machine() != machine:
        raise BuildFailed(
            f"this node is {platform.machine()}, the operator's node is {machine}: "
            "environments are built where both are the same"
        )
    scratch = os.environ["SHOAL_SCRATCH"]
    target = folder()
    shutil.rmtree(target, ignore_errors=True)  # of an attempt before this one
    requirements = wanted.get("requirements") or []
    if wanted.get("conda"):
        python = _make_conda(wanted, target)
    else:
        python = platform.python_version()
        _make(target, own=not requirements)
    if wanted.get("software"):
        _install_software(wanted["software"], wanted.get("softwareSources") or [])
        offer_software()  # git may be among it, or a library that a package is built with
    if requirements:
        _install_packages(requirements, target)
    archive = os.path.join(scratch, "environment.tar.gz")
    sha256 = _pack(target, archive)
    size = os.path.getsize(archive)
    print(f"packed: {size / 1e6:.1f} MB")
    return {
        "key": _upload(archive),
        "sha256": sha256,
        "size": size,
        "python": python,
        "machine": machine,
        "conda": bool(wanted.get("conda")),
    }


def _make(target: str, *, own: bool) -> None:
    """Make an empty environment, in which the image's own packages can be seen or not."""
    _fetch_tool(_uv())
    shown = ["--system-site-packages"] if own else []
    _run(_uv(), "venv", "--quiet", *shown, "--python", sys.executable, target)


def _make_conda(wanted: dict[str, Any], target: str) -> str:
    """Install conda packages; return the version of the Python among them."""
    tool = os.path.join(os.environ["SHOAL_SCRATCH"], "rattler.tar")
    _fetch_tool(tool, "/v1/rattler")
    _run(*conda.command(wanted["conda"], tool, target))
    os.remove(tool)
    if wanted.get("requirements"):
        _fetch_tool(_uv())
    return conda.version_of_python(target)


def _install_packages(requirements: list[str], target: str) -> None:
    path = os.path.join(os.environ["SHOAL_SCRATCH"], "requirements.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(requirements) + "\n")
    _run(
        _uv(),
        *("pip", "install", "--python", os.path.join(target, "bin", "python")),
        *("--compile-bytecode", "--requirement", path),
        hint="name an index that Pods can reach: SHOAL_PACKAGE_INDEX where you submit, an "
        "--index-url among the requirements, or the chart's environments.variables",
    )


def _uv() -> str:
    return os.path.join(os.environ["SHOAL_SCRATCH"], "uv")


def _install_software(packages: list[str], sources: list[str]) -> None:
    """Unpack Debian packages, and what they need beyond the image, below the environment.

    apt and dpkg work without root on folders of our own; no package's own scripts are run.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        raise BuildFailed(
            f"{', '.join(packages)}: the image has no apt: name one that is made of Debian"
        )
    work = os.path.join(os.environ["SHOAL_SCRATCH"], "apt")
    archives = os.path.join(work, "cache", "archives")
    for name in (os.path.join(work, "state", "lists"), archives):
        os.makedirs(os.path.join(name, "partial"))
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
    chosen = [word for pair in options.items() for word in ("-o", "=".join(pair))]
    hint = "name sources that Pods can reach: softwareSources, or the chart's environments"
    _run(apt, "--quiet", *chosen, "update", hint=f"{hint}.debianSources")
    how = ("--download-only", "--no-install-recommends", "--yes")
    _run(apt, "--quiet", *chosen, "install", *how, "--", *packages)
    os.makedirs(software_folder())
    for name in sorted(os.listdir(archives)):
        if name.endswith(".deb"):
            _run(dpkg, "--extract", os.path.join(archives, name), software_folder())


def _fetch_tool(path: str, route: str = "/v1/uv") -> None:
    line, patience = line_from_environment(PROTOCOL), _Patience()
    while True:
        try:
            with open(path, "wb") as file:
                line.fetch(route, file)
            break
        except (Unreachable, Refused) as error:
            patience.pause(error)
    os.chmod(path, 0o755)


def _run(*argv: str, hint: str = "") -> None:
    """Run a tool, its words going to our output; raise what it said last if it fails.

    `hint` is added where it could not fetch something.
    """
    environment = dict(
        os.environ,
        UV_CACHE_DIR=os.path.join(os.environ["TMPDIR"], "uv-cache"),
        UV_LINK_MODE="copy",
        UV_PYTHON_DOWNLOADS="never",
        UV_NO_PROGRESS="1",
        NO_COLOR="1",
    )
    last: list[str] = []
    try:
        process = subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        raise BuildFailed(
            "uv can't run in this image, whose C library is another one than the operator's image "
            "has (Alpine?): name an image with glibc"
        ) from None
    with process:
        assert process.stdout is not None
        for text in process.stdout:
            sys.stdout.write(text)
            last = [*last, text.rstrip()][-LAST_LINES:]
    if hint and any("Failed to fetch" in text for text in last):
        last.append(hint)
    if process.returncode != 0:
        raise BuildFailed("\n".join(last) or f"{argv[0]} ended with exit code {process.returncode}")


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
    line, objects, patience = line_from_environment(PROTOCOL), Objects(), _Patience()
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


class _Patience:
    """Waits between attempts, for `PATIENCE` seconds in all."""

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE
        self._failures = 0

    def pause(self, error: Exception) -> None:
        """Wait after a failure; raise it when the time is over."""
        if time.monotonic() > self._until:
            raise error
        print(f"waits: {error}", flush=True)
        time.sleep(RETRIES[min(self._failures, len(RETRIES) - 1)])
        self._failures += 1
