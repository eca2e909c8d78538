"""Which Python of this machine carries out a call on `Local`, and which version it is.

What is installed beside it is there already, so that an interpreter of this machine needs nothing
but to be run.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.errors import ConfigurationError, NotSupportedYet
from shoal.interpreters import (
    SHOAL_INTERPRETER,
    ActiveEnvironment,
    LocalPipInterpreter,
    PreinstalledInterpreter,
)

if TYPE_CHECKING:
    from shoal.deployment import Deployment

VERSION_SECONDS = 30.0
_VERSION = "import platform; print(platform.python_version())"


@dataclass(frozen=True)
class LocalPython:
    """A Python of this machine.

    Attributes:
        path: the program.
        version: such as "3.11.4".
        bin: the folder of its console scripts, where they are to be found by commands, or nothing.
    """

    path: str
    version: str
    bin: str = ""

    @property
    def minor(self) -> str:
        """Return major and minor version."""
        return ".".join(self.version.split(".")[:2])

    def variables(self, wanted: Mapping[str, str] | None) -> dict[str, str]:
        """Return a worker's variables: those of the deployment, and the interpreter's own PATH."""
        variables = dict(wanted or {})
        if self.bin:
            rest = variables.get("PATH") or os.environ.get("PATH") or os.defpath
            variables["PATH"] = os.pathsep.join([self.bin, rest])
        return variables


def local_python(deployment: Deployment, usual: str | None) -> LocalPython:
    """Return the Python for a deployment; `usual` is the host's own, None means this one.

    Raises:
        NotSupportedYet: something would have to be installed or checked out.
        ConfigurationError: it needs a container, or there is no such Python here.
    """
    chosen = deployment.interpreter
    if deployment.git is not None:
        raise NotSupportedYet(
            f"Local() checks nothing out: {deployment.git.url} needs Kubernetes(); or check it out "
            "yourself, and leave the deployment out"
        )
    if deployment.image is not None:
        raise ConfigurationError(
            f"Local() runs no containers: {deployment.image.image_name} needs Kubernetes(); leave "
            "the deployment out to use this interpreter"
        )
    if isinstance(chosen, ActiveEnvironment):
        chosen = None
    if isinstance(chosen, LocalPipInterpreter):
        return _beside_packages(chosen)
    if isinstance(chosen, PreinstalledInterpreter):
        if chosen.path_to_interpreter != SHOAL_INTERPRETER:
            return _found(chosen.path_to_interpreter, "PreinstalledInterpreter")
    elif chosen is not None:
        raise NotSupportedYet(
            f"Local() installs no packages, as {type(chosen).__name__} asks for: install them in a "
            "virtual environment of yours and pass shoal.LocalPipInterpreter(its Python), leave "
            "the interpreter out to use this one, or use Kubernetes()"
        )
    return _found(usual or sys.executable, "Local.python")


def _beside_packages(chosen: LocalPipInterpreter) -> LocalPython:
    if chosen.additional_software:
        raise NotSupportedYet(
            "Local() installs no Debian packages: install them on this machine and leave "
            "additional_software out, or use Kubernetes()"
        )
    found = _found(chosen.path_to_interpreter, "LocalPipInterpreter")
    wanted = chosen.python_version
    if wanted is not None and wanted not in (found.version, found.minor):
        raise ConfigurationError(
            f"LocalPipInterpreter: {found.path} is Python {found.version}, not {wanted}: leave "
            "python_version out, or use Kubernetes(), which installs its packages for another one"
        )
    return LocalPython(found.path, found.version, os.path.dirname(found.path))


def _found(program: str, what: str) -> LocalPython:
    """Return a Python by its path, or its name on the PATH."""
    named = os.path.expanduser(program)
    path = shutil.which(named)
    if path is None:
        raise ConfigurationError(f"{what}: there is no program {named} on this machine")
    path = os.path.abspath(path)  # a link stays one: it tells the virtual environment
    if path == sys.executable:
        return LocalPython(path, platform.python_version())
    real = os.path.realpath(path)
    version = _version(path, what, (real, Path(real).stat().st_mtime_ns))
    major, minor, *_ = version.split(".")
    if (int(major), int(minor)) < (3, 9):
        raise ConfigurationError(f"{what}: {path} is Python {version}, a worker needs 3.9 or newer")
    return LocalPython(path, version)


@lru_cache(maxsize=64)
def _version(path: str, what: str, _stamp: tuple[object, ...]) -> str:
    try:
        done = subprocess.run(
            [path, "-I", "-c", _VERSION],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"{what}: {path} does not tell its version, as a Python would: {error}"
        ) from error
    return done.stdout.strip()
