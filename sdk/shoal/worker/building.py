"""Builds an environment: what the Job of a builder Pod calls, once for all workers.

The environment is made at the very path where workers unpack it, since scripts in it name that
path. The tool is uv, which the operator serves; its own words go to the Job's output. What comes of
it is one archive in the bucket; only its key, digest and size are the Job's result.
"""

from __future__ import annotations

import gzip
import os
import platform
import subprocess
import sys
import tarfile
import time
from typing import Any

from . import PROTOCOL
from .environment import digest, folder
from .objects import Expired, Objects
from .transport import Line, Unreachable, line_from_environment

#: How long the dispatcher may stay silent while the archive waits for its place, in seconds.
PATIENCE = 300.0
#: A failure's message ends with so many of the tool's last lines.
LAST_LINES = 20


class BuildFailed(Exception):
    """The tool could not install what was asked for; the message is its last lines."""


def build(requirements: list[str], machine: str) -> dict[str, Any]:
    """Install `requirements` (lines of a requirements.txt); return what was made.

    `machine` is the architecture of the tool that the operator serves, as `platform.machine` says
    it. The result has the archive's ``key``, ``sha256`` and ``size`` in bytes, and the ``python``
    that the environment is for.

    Raises:
        BuildFailed: with the tool's words.
    """
    if platform.machine() != machine:
        raise BuildFailed(
            f"this node is {platform.machine()}, the operator's node is {machine}: "
            "environments are built where both are the same"
        )
    scratch = os.environ["SHOAL_SCRATCH"]
    uv = os.path.join(scratch, "uv")
    _fetch_tool(uv)
    wanted = os.path.join(scratch, "requirements.txt")
    with open(wanted, "w", encoding="utf-8") as file:
        file.write("\n".join(requirements) + "\n")
    target = folder()
    _run(uv, "venv", "--quiet", "--python", sys.executable, target)
    _run(
        uv,
        *("pip", "install", "--python", os.path.join(target, "bin", "python")),
        *("--compile-bytecode", "--requirement", wanted),
    )
    archive = os.path.join(scratch, "environment.tar.gz")
    sha256 = _pack(target, archive)
    size = os.path.getsize(archive)
    print(f"packed: {size / 1e6:.1f} MB")
    return {
        "key": _upload(archive),
        "sha256": sha256,
        "size": size,
        "python": platform.python_version(),
    }


def _fetch_tool(path: str) -> None:
    with open(path, "wb") as file:
        line_from_environment(PROTOCOL).fetch("/v1/uv", file)
    os.chmod(path, 0o755)


def _run(*argv: str) -> None:
    """Run a tool, its words going to our output; raise what it said last if it fails."""
    environment = dict(
        os.environ,
        UV_CACHE_DIR=os.path.join(os.environ["TMPDIR"], "uv-cache"),
        UV_LINK_MODE="copy",
        UV_PYTHON_DOWNLOADS="never",
        UV_NO_PROGRESS="1",
        NO_COLOR="1",
    )
    last: list[str] = []
    process = subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for text in process.stdout:
        sys.stdout.write(text)
        last = [*last, text.rstrip()][-LAST_LINES:]
    if process.wait() != 0:
        raise BuildFailed("\n".join(last) or f"{argv[0]} ended with exit code {process.returncode}")


def _pack(source: str, target: str) -> str:
    """Write the folder as a .tar.gz with its last name as its root; return the SHA-256."""
    packed = gzip.GzipFile(target, "wb", 1, mtime=0)
    with packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        archive.add(source, os.path.basename(source), filter=_anonymous)
    with open(target, "rb") as file:
        return digest(file)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _upload(path: str) -> str:
    """Put the archive where the dispatcher says; return the key."""
    line, objects = line_from_environment(PROTOCOL), Objects()
    until = time.monotonic() + PATIENCE
    while True:
        granted = _place(line, until)
        try:
            objects.put(granted["url"], path)
            return str(granted["key"])
        except Expired:
            if time.monotonic() > until:
                raise


def _place(line: Line, until: float) -> dict[str, Any]:
    while True:
        try:
            granted = line.call("/v1/upload", {"job": os.environ["SHOAL_JOB"]})
        except Unreachable:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)
            continue
        if granted.get("gone"):
            raise BuildFailed("the build is over: nobody waits for it any more")
        return granted
