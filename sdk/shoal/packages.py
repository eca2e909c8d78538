"""From an interpreter of this machine to what a builder in the cluster has to install.

Only versions travel. They come from the index that the cluster's chart names, or the one that
`SHOAL_PACKAGE_INDEX` names here (for Debian packages `SHOAL_DEBIAN_SOURCES`): what pip is told on
this machine may hold a password, and may be an address that means nothing there.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal import active, conda_files, conda_prefixes, lock_files, requirement_lines
from shoal.errors import ConfigurationError
from shoal.interpreters import (
    ActiveEnvironment,
    CondaEnvironmentFile,
    InterpreterSpecFile,
    LocalCondaInterpreter,
    LocalPipInterpreter,
    PipRequirementsFile,
    PoetryProjectPath,
    ScriptRequirements,
    UvProjectPath,
)
from shoal.worker.urls import has_password

if TYPE_CHECKING:
    from shoal.deployment import Deployment
    from shoal.interpreters import AnyInterpreter
    from shoal.worker.conda_file import CondaPackages

INDEX_VARIABLE = "SHOAL_PACKAGE_INDEX"
SOURCES_VARIABLE = "SHOAL_DEBIAN_SOURCES"
FREEZE_SECONDS = 60.0
_DEBIAN = re.compile(r"^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$")

_FREEZE = """\
import importlib.metadata as metadata, json, sys
found = []
for one in metadata.distributions():
    name = one.metadata["Name"]
    direct = json.loads(one.read_text("direct_url.json") or "{}")
    if name:  # else what is left of something uninstalled
        found.append([name, one.version, direct])
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "found": found}))
"""

_log = logging.getLogger("shoal")

_READERS: dict[type, tuple[str, Callable[[Path], list[str]]]] = {
    PipRequirementsFile: ("path_to_requirements_file", requirement_lines.of_file),
    PoetryProjectPath: ("path_to_project", lock_files.of_poetry_project),
    UvProjectPath: ("path_to_project", lock_files.of_uv_project),
    ScriptRequirements: ("path_to_script", lock_files.of_script),
}
"""What is read for an interpreter: the attribute with its path, and how."""

FORMATS: dict[type, str] = {
    PipRequirementsFile: "requirements",
    PoetryProjectPath: "poetry",
    UvProjectPath: "uv",
    ScriptRequirements: "requirements",
}
"""How a builder reads the file of an interpreter, where that is one of a git repository."""
_CONDA_FORMATS = {None: "conda", "env_export": "conda-env-export", "list": "conda-list"}


@dataclass(frozen=True)
class Packages:
    """What is to be installed.

    Attributes:
        requirements: lines of a requirements.txt that name nothing of this machine.
        python: the version of Python, "3.11" or "3.11.4"; "" if a conda environment leaves it open.
        software: Debian packages.
        conda: conda packages, which bring the Python.
    """

    requirements: tuple[str, ...]
    python: str
    software: tuple[str, ...] = ()
    conda: CondaPackages | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the resource's field ``environment``; empty where nothing is to be installed."""
        found: dict[str, Any] = {
            "requirements": list(self.requirements),
            "software": list(self.software),
            "softwareSources": debian_sources() if self.software else [],
            "conda": self.conda.to_dict() if self.conda else {},
        }
        return {name: some for name, some in found.items() if some}


def debian_sources() -> list[str]:
    """Return the lines of a sources.list that this machine names for its jobs."""
    lines = [line.strip() for line in os.environ.get(SOURCES_VARIABLE, "").splitlines()]
    for line in filter(None, lines):
        if has_password(line):
            raise ConfigurationError(f"{SOURCES_VARIABLE} {requirement_lines.READABLE}")
        if not line.startswith("deb "):
            raise ConfigurationError(
                f"{SOURCES_VARIABLE} has lines such as 'deb http://mirror/debian bookworm main'; "
                f"{line!r} is none"
            )
    return [line for line in lines if line]


def packages_for(deployment: Deployment) -> Packages | None:
    """Return what a builder has to install for a deployment; None where that is nothing.

    Raises:
        ConfigurationError: a file is missing, or something in it can't be had elsewhere.
    """
    if deployment.git is not None:
        return packages_in_repository(deployment.interpreter)
    return packages_of(deployment.interpreter)


def packages_of(interpreter: AnyInterpreter | None) -> Packages | None:
    """Return what a builder has to install for the interpreter; None where that is nothing.

    Raises:
        ConfigurationError: a file is missing, or something in it can't be had elsewhere.
    """
    if isinstance(interpreter, ActiveEnvironment):
        return _active()
    conda = None
    if isinstance(interpreter, CondaEnvironmentFile | LocalCondaInterpreter):
        conda = _conda(interpreter)
        lines, python = list(conda.requirements), conda.python
    elif isinstance(interpreter, LocalPipInterpreter):
        path = os.path.abspath(os.path.expanduser(interpreter.path_to_interpreter))
        found = _frozen(path, _stamp(path))
        lines, python = list(found.requirements), interpreter.python_version or found.python
    elif isinstance(interpreter, InterpreterSpecFile):
        field, read = _READERS[type(interpreter)]
        lines = read(Path(getattr(interpreter, field)).expanduser())
        python = interpreter.python_version
    else:
        return None
    software = _software(interpreter.additional_software)
    if all(line.startswith("-") for line in lines):
        if isinstance(interpreter, PipRequirementsFile) and not software:
            raise ConfigurationError(
                f"PipRequirementsFile: {interpreter.path_to_requirements_file} names no package: "
                "use Deployment.mirror_local without an interpreter"
            )
        lines = []
    elif not requirement_lines.names_index(lines):
        lines = [*_index(), *lines]
    return Packages(tuple(lines), python, software, conda)


def _conda(interpreter: CondaEnvironmentFile | LocalCondaInterpreter) -> CondaPackages:
    """Return the conda packages that the interpreter names or has, and those of pip beside them."""
    if isinstance(interpreter, CondaEnvironmentFile):
        path = Path(interpreter.path_to_file).expanduser()
        return conda_files.of_file(path, interpreter.file_format)
    found = conda_prefixes.read(conda_prefixes.find(interpreter.environment_name_or_path))
    return replace(found.conda, requirements=_lines(found.pip, "LocalCondaInterpreter"))


def _active() -> Packages | None:
    if not active.is_wanted():
        return None
    if (project := active.project()) is not None:
        try:
            return packages_of(project)
        except ConfigurationError as error:
            _log.info("what is installed counts, since the lock does not help: %s", error)
    conda = None
    if prefix := active.conda_prefix():
        conda, lines = _active_conda(prefix)
    elif not (lines := active.requirements()):
        return None
    index = _index() if lines else ()
    return Packages((*index, *lines), "{}.{}".format(*sys.version_info[:2]), conda=conda)


def _active_conda(prefix: Path) -> tuple[CondaPackages, tuple[str, ...]]:
    """Return what conda has installed, and lines for what pip has, less what only Shoal needs."""
    try:
        found = conda_prefixes.read(prefix)
        kept = [one for one in found.pip if active.key_of(one[0]) in active.names()]
        return found.conda, _lines(kept, "LocalCondaInterpreter")
    except ConfigurationError as error:
        raise ConfigurationError(f"The active environment: {error}; or {active.REMEDY}") from error


def packages_in_repository(interpreter: AnyInterpreter | None) -> Packages | None:
    """Return what is known here of packages that a file of a git repository names."""
    if not isinstance(interpreter, InterpreterSpecFile):
        return None
    python = "" if isinstance(interpreter, CondaEnvironmentFile) else interpreter.python_version
    return Packages(_index(), python, _software(interpreter.additional_software))


def place_in_repository(interpreter: InterpreterSpecFile) -> dict[str, str]:
    """Return how the file is read, and its path from the repository's root on."""
    kind = type(interpreter)
    if isinstance(interpreter, CondaEnvironmentFile):
        named, form = interpreter.path_to_file, _CONDA_FORMATS[interpreter.file_format]
    else:
        named, form = getattr(interpreter, _READERS[kind][0]), FORMATS[kind]
    path = posixpath.normpath(named or ".")
    if path.startswith(("/", "..")):
        raise ConfigurationError(
            f"{kind.__name__}: {path} is not in the repository: give a path from its root on"
        )
    return {"format": form, "path": path}


def _index() -> tuple[str, ...]:
    """Return the line for the index that this machine names for its jobs."""
    url = os.environ.get(INDEX_VARIABLE, "")
    if url and not re.match(r"^https?://[^\s/]+\S*$", url):
        raise ConfigurationError(f"{INDEX_VARIABLE} must be a URL (http or https); it is {url!r}")
    if has_password(url):
        raise ConfigurationError(f"{INDEX_VARIABLE} {requirement_lines.READABLE}")
    return (f"--index-url {url}",) if url else ()


def _software(names: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return the names of Debian packages."""
    if not isinstance(names, str | Sequence | None):
        names = (names,)
    found = (names,) if isinstance(names, str) else tuple(names or ())
    for name in found:
        if not isinstance(name, str) or not _DEBIAN.match(name):
            raise ConfigurationError(
                f'additional_software has names of Debian packages, such as "libgomp1"; {name!r} '
                "is none"
            )
    return found


def _stamp(python: str) -> tuple[object, ...]:
    """Return what changes when something is installed beside the interpreter."""
    real = os.path.realpath(python)
    if not os.access(real, os.X_OK):
        raise ConfigurationError(f"LocalPipInterpreter: {python} is no program that can be run")
    library = Path(python).parent.parent / "lib"
    folders = sorted(library.glob("python3*/site-packages"))
    return (real, *((str(folder), folder.stat().st_mtime_ns) for folder in folders))


@lru_cache(maxsize=16)
def _frozen(python: str, _stamped: tuple[object, ...]) -> Packages:
    """Return what is installed beside an interpreter, at the versions that it has."""
    try:
        done = subprocess.run(
            [python, "-I", "-"],
            input=_FREEZE.encode(),
            capture_output=True,
            timeout=FREEZE_SECONDS,
            check=True,
        )
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", b"") or b""
        words = said.decode(errors="replace").strip().rpartition("\n")[2] or str(error)
        raise ConfigurationError(
            f"LocalPipInterpreter: {python} does not tell what is installed, as a Python would: "
            f"{words[:500]}"
        ) from error
    return Packages(_lines(told["found"], "LocalPipInterpreter"), told["python"])


def _lines(
    found: Iterable[tuple[str, str, dict[str, object]]], interpreter: str
) -> tuple[str, ...]:
    """Return the lines for what is installed: names, versions and origins."""
    lines: dict[str, str] = {}
    for name, version, direct in found:
        line = requirement_lines.of_installed(name, version, direct, interpreter, "leave it out")
        if line and name.lower() not in ("pip", "setuptools", "wheel", "distribute"):
            lines.setdefault(re.sub(r"[-_.]+", "-", name).lower(), line)
    return tuple(line for _, line in sorted(lines.items()))
