"""Enters the environment of the worker's Pod: fetches it, and goes on under its Python.

The Pod says by `SHOAL_ENVIRONMENT` that it has one; the dispatcher tells where it is, and its
digest. It is unpacked at a path that is the same in every Pod, and the worker starts once more, in
the same process, under the environment's own interpreter: the agent and all that it forks then see
its packages.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import time
from typing import IO, Any

from . import PROTOCOL
from .objects import Expired, ObjectError, Objects
from .transport import Unreachable, line_from_environment

#: How long the dispatcher or the bucket may be away, in seconds.
PATIENCE = 300.0
#: Waits between attempts, in seconds.
RETRIES = (0.05, 0.2, 0.5, 1.0, 2.0)


class EnvironmentUnusable(Exception):
    """What was fetched is not what the Pod was made for."""


def folder() -> str:
    """Return the path of the environment, the same in every Pod."""
    return os.path.join(os.environ["SHOAL_SCRATCH"], "environment")


def enter() -> None:
    """Start anew under the environment's Python; return if this is it.

    Raises:
        EnvironmentUnusable: the archive has another digest.
    """
    if sys.prefix == folder():
        return
    archive = folder() + ".tar.gz"
    _fetch(archive)
    unpack(archive, folder())
    os.remove(archive)
    bin_folder = os.path.join(folder(), "bin")
    os.environ["PATH"] = os.pathsep.join([bin_folder, os.environ.get("PATH", os.defpath)])
    os.environ["VIRTUAL_ENV"] = folder()
    worker = os.path.dirname(os.environ["SHOAL_LIBRARY"])
    python = os.path.join(bin_folder, "python")
    start = "import sys; sys.path.insert(0, sys.argv[1]); from _shoal_worker.agent import main; "
    os.execv(python, [python, "-c", start + "sys.exit(main())", worker])


def unpack(archive: str, target: str) -> None:
    """Unpack a .tar.gz whose root is the target's last name; all of it, or nothing."""
    parts = target + ".part"
    shutil.rmtree(parts, ignore_errors=True)
    with tarfile.open(archive, "r|gz") as packed:
        packed.extractall(parts)
    os.rename(os.path.join(parts, os.path.basename(target)), target)
    os.rmdir(parts)


def _fetch(path: str) -> None:
    """Write the archive to `path`, and check it."""
    line, objects = line_from_environment(PROTOCOL), Objects()
    until, failures = time.monotonic() + PATIENCE, 0
    while True:
        try:
            about: dict[str, Any] = line.call("/v1/environment", {})
            with open(path, "wb") as file:
                objects.read(about["url"], file)
            break
        except (Unreachable, Expired, ObjectError) as error:
            if time.monotonic() > until:
                raise
            if failures in (0, 10, 100):
                print(f"shoal worker: the environment cannot be read now: {error}", file=sys.stderr)
            time.sleep(RETRIES[min(failures, len(RETRIES) - 1)])
            failures += 1
    line.close()
    with open(path, "rb") as file:
        found = digest(file)
    if found != about["sha256"]:
        raise EnvironmentUnusable(f"the environment has sha256 {found}, not {about['sha256']}")


def digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left to read, in hexadecimal."""
    sha = hashlib.sha256()
    while piece := file.read(1 << 20):
        sha.update(piece)
    return sha.hexdigest()
