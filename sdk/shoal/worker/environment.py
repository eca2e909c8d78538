"""Enters the environment of the worker's Pod: fetches it, and goes on under its Python.

The Pod says by `SHOAL_ENVIRONMENT` which one it is for; the dispatcher tells where that is, and its
digest. It is unpacked at a path that is the same in every Pod, and the worker starts once more, in
the same process, under the environment's own interpreter: the agent and all that it forks then see
its packages.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
from typing import IO, Any

from . import PROTOCOL
from .objects import ObjectError, Objects
from .patience import Patience
from .transport import Refused, Unreachable, line_from_environment

#: Where Debian packages have programs and libraries.
PROGRAMS = ("usr/bin", "bin", "usr/sbin", "sbin", "usr/games")
LIBRARIES = ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib", "lib")
#: The file in a conda environment that says what activation would set, by name.
ACTIVATION = "activation.json"


class EnvironmentUnusable(Exception):
    """The environment can't be had, or is not for this Pod."""


def folder() -> str:
    """Return the path of the environment, the same in every Pod."""
    return os.path.join(os.environ["SHOAL_SCRATCH"], "environment")


def software_folder() -> str:
    """Return the path below which the environment's Debian packages are unpacked."""
    return os.path.join(folder(), "software")


def source_folder() -> str:
    """Return the path of the environment's git repository."""
    return os.path.join(folder(), "source")


def enter() -> None:
    """Start anew under the environment's Python; return if this is it, or if it has none.

    Ends the process, with a message for the kubelet, if the environment can't be had.
    """
    if sys.prefix == folder():
        return
    name = os.environ["SHOAL_ENVIRONMENT"]
    archive = folder() + ".tar.gz"
    try:
        about = fetch(name, archive)
        check(about)
    except EnvironmentUnusable as error:
        _give_up(f"{error}: delete jobs.shoal.dev/{name} to have it built again")
    unpack(archive, folder())
    os.remove(archive)
    if "source" in about:
        os.environ["SHOAL_SOURCE"] = source_folder()
        os.environ["SHOAL_SOURCE_PATH"] = about["source"]
    if not about["python"]:
        return
    bin_folder = os.path.join(folder(), "bin")
    offer(software_folder())
    _prepend("PATH", [bin_folder], os.defpath)
    if about.get("conda"):
        _activate()
    else:
        os.environ["VIRTUAL_ENV"] = folder()
    worker = os.path.dirname(os.environ["SHOAL_LIBRARY"])
    python = os.path.join(bin_folder, "python")
    start = "import sys; sys.path.insert(0, sys.argv[1]); from _shoal_worker.agent import main; "
    os.execv(python, [python, "-c", start + "sys.exit(main())", worker])


def _activate() -> None:
    """Set what conda's activation would set; what the Pod says goes before it."""
    with open(os.path.join(folder(), ACTIVATION), encoding="utf-8") as file:
        for variable, value in json.load(file).items():
            os.environ.setdefault(variable, value)
    os.environ["CONDA_PREFIX"] = folder()


def offer(top: str) -> None:
    """Let this process and its children find the Debian packages that are unpacked below `top`."""
    _prepend("PATH", _below(top, PROGRAMS), os.defpath)
    _prepend("LD_LIBRARY_PATH", _below(top, LIBRARIES))
    for path in _below(top, ("usr/lib/git-core",)):  # git looks for its parts there only
        os.environ["GIT_EXEC_PATH"] = path


def _below(top: str, patterns: tuple[str, ...]) -> list[str]:
    found = [path for pattern in patterns for path in glob.glob(os.path.join(top, pattern))]
    return [path for path in found if os.path.isdir(path)]


def _prepend(variable: str, paths: list[str], default: str = "") -> None:
    if paths:
        rest = os.environ.get(variable) or default
        os.environ[variable] = os.pathsep.join([*paths, rest] if rest else paths)


def fetch(name: str, path: str) -> dict[str, Any]:
    """Write the archive to `path`, and return what the dispatcher says of it.

    Raises:
        EnvironmentUnusable: it could not be had within `PATIENCE`.
    """
    line, objects, patience = line_from_environment(PROTOCOL), Objects(), Patience()
    while True:
        try:
            about = line.call("/v1/environment", {"environment": name})
            with open(path, "wb") as file:
                objects.read(about["url"], file)
            with open(path, "rb") as file:
                found = digest(file)
            if found == about["sha256"]:
                line.close()
                return about
            raise ObjectError(f"it has sha256 {found}, not {about['sha256']}")
        except (Unreachable, Refused, ObjectError) as error:
            try:
                patience.pause(error)
            except type(error):
                why = f"the environment can't be read: {error}"
                raise EnvironmentUnusable(why) from error


def check(about: dict[str, Any]) -> None:
    """Raise EnvironmentUnusable if the environment is for another Python or another machine.

    One of conda's has a Python of its own: the image's does not matter; nor does it for code alone.
    """
    if not about["python"]:
        return
    theirs = "{}.{} on {}".format(*about["python"].split(".")[:2], about["machine"])
    ours = "{}.{} on {}".format(*sys.version_info[:2], platform.machine())
    if about["machine"] != platform.machine() or (ours != theirs and not about.get("conda")):
        raise EnvironmentUnusable(f"the environment is for Python {theirs}, this is {ours}")


def unpack(archive: str, target: str) -> None:
    """Unpack a .tar.gz whose root is the target's last name; all of it, or nothing."""
    parts = target + ".part"
    shutil.rmtree(parts, ignore_errors=True)
    # it is what the builder packed, links to the image's own Python included
    trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    with tarfile.open(archive, "r|gz") as packed:
        packed.extractall(parts, **trusted)  # type: ignore[arg-type]
    os.rename(os.path.join(parts, os.path.basename(target)), target)
    os.rmdir(parts)


def digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left to read, in hexadecimal."""
    sha = hashlib.sha256()
    while piece := file.read(1 << 20):
        sha.update(piece)
    return sha.hexdigest()


def _give_up(why: str) -> None:
    note = os.environ.get("SHOAL_TERMINATION_LOG", "/dev/termination-log")
    if os.path.isfile(note):
        with open(note, "w", encoding="utf-8") as file:
            file.write(why)
    sys.exit(f"shoal worker: {why}")
