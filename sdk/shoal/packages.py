"""From an interpreter of this machine to what a builder in the cluster has to install.

Only versions travel. They come from the index that the cluster's chart names, or the one that
`SHOAL_PACKAGE_INDEX` names here: what pip is told on this machine may hold a password, and may be
an address that means nothing there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.errors import ConfigurationError, NotSupportedYet
from shoal.interpreters import LocalPipInterpreter, PipRequirementsFile

if TYPE_CHECKING:
    from shoal.interpreters import AnyInterpreter

INDEX_VARIABLE = "SHOAL_PACKAGE_INDEX"
FREEZE_SECONDS = 60.0
_LOCAL = re.compile(r"^(\.|/|~|file:|[A-Za-z]:\\)|^[^:]*(/|\\|\.whl$|\.tar\.gz$|\.zip$)")
_LINKS = re.compile(r"^(-f|--find-links)(\s+|=)")
_EDITABLE = re.compile(r"^(-e|--editable)(\s|=|$)")
_PASSWORD = re.compile(r"://[^/\s@:]*:[^/\s@]+@")
_INCLUDE = re.compile(r"^(-r|--requirement)(\s+|=)?(?P<path>.+)$")
_INDEX = re.compile(r"^(-i|--index-url|--default-index)(\s|=)")
_CONSTRAINT = re.compile(r"^(-c|--constraint)(\s|=|$)")

_READABLE = (
    "has a password in it, which whoever reads the job could read: set the chart's "
    "environments.variables, or use an index that needs none"
)

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


@dataclass(frozen=True)
class Packages:
    """What is to be installed.

    Attributes:
        requirements: lines of a requirements.txt that name nothing of this machine.
        python: the version of Python, "3.11" or "3.11.4".
    """

    requirements: tuple[str, ...]
    python: str


def packages_of(interpreter: AnyInterpreter | None) -> Packages | None:
    """Return what a builder has to install for the interpreter; None where that is nothing.

    Raises:
        ConfigurationError: a file is missing, or something in it can't be had elsewhere.
    """
    if isinstance(interpreter, PipRequirementsFile):
        _no_software(interpreter.additional_software)
        lines = _lines(Path(interpreter.path_to_requirements_file).expanduser())
        if all(line.startswith("-") for line in lines):
            raise ConfigurationError(
                f"PipRequirementsFile: {interpreter.path_to_requirements_file} names no package: "
                "use Deployment.mirror_local without an interpreter"
            )
        named = any(_INDEX.match(line) for line in lines)
        return Packages((*(() if named else _index()), *lines), interpreter.python_version)
    if isinstance(interpreter, LocalPipInterpreter):
        _no_software(interpreter.additional_software)
        path = os.path.abspath(os.path.expanduser(interpreter.path_to_interpreter))
        found = _frozen(path, _stamp(path))
        lines = [*_index(), *found.requirements] if found.requirements else []
        return Packages(tuple(lines), interpreter.python_version or found.python)
    return None


def _index() -> tuple[str, ...]:
    """Return the line for the index that this machine names for its jobs."""
    url = os.environ.get(INDEX_VARIABLE, "")
    if _PASSWORD.search(url):
        raise ConfigurationError(f"{INDEX_VARIABLE} {_READABLE}")
    return (f"--index-url {url}",) if url else ()


def _no_software(names: object) -> None:
    if names:
        raise NotSupportedYet(
            "additional_software comes with a later version: name an image that has these "
            "packages, with shoal.ContainerInterpreter"
        )


def _lines(path: Path) -> list[str]:
    """Return the file's requirements, those of the files that it includes in their places."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"PipRequirementsFile: {path}: {error.strerror}") from error
    found: list[str] = []
    joined = re.sub(r"\\\r?\n", " ", text)
    for line in joined.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not line:
            continue
        if include := _INCLUDE.match(line):
            found += _lines(path.parent / include["path"].strip())
            continue
        if _CONSTRAINT.match(line):
            raise NotSupportedYet(
                f"{path}: {line!r}: constraints come with a later version: pin the versions in "
                "the requirements, for example with `uv pip compile`"
            )
        if _PASSWORD.search(line):
            name = re.split(r"[\s=]", line)[0]
            raise ConfigurationError(f"{path}: a line that begins with {name!r} {_READABLE}")
        if _EDITABLE.match(line) or _LOCAL.search(_target(line)):
            raise ConfigurationError(
                f"{path}: {line!r} is on this machine only: leave it out (Deployment.mirror_local "
                "brings your code along), or name a package that an index has"
            )
        found.append(line)
    return found


def _target(line: str) -> str:
    """Return the part of a requirement that says where it is: a path, a URL, or its mere name."""
    if _LINKS.match(line):
        return _LINKS.sub("", line)
    if line.startswith("-"):
        return ""
    _, at, where = line.partition(" @ ")
    return re.split(r"[\s;]", where if at else line)[0]


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
            [python, "-I", "-c", _FREEZE], capture_output=True, timeout=FREEZE_SECONDS, check=True
        )
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", b"") or b""
        words = said.decode(errors="replace").strip().rpartition("\n")[2] or str(error)
        raise ConfigurationError(
            f"LocalPipInterpreter: `{shlex.quote(python)} -c ...` does not tell what is installed: "
            f"{words}"
        ) from error
    lines: dict[str, str] = {}
    for name, version, direct in told["found"]:
        line = _requirement(name, version, direct)
        if line and name.lower() not in ("pip", "setuptools", "wheel", "distribute"):
            lines.setdefault(re.sub(r"[-_.]+", "-", name).lower(), line)
    return Packages(tuple(line for _, line in sorted(lines.items())), told["python"])


def _requirement(name: str, version: str, direct: dict[str, object]) -> str:
    """Return a line for an installed package; none for an editable one, which is code."""
    if not direct:
        return f"{name}=={version}"
    folder, url = direct.get("dir_info"), str(direct.get("url") or "")
    if isinstance(folder, dict) and folder.get("editable"):
        return ""
    vcs = direct.get("vcs_info")
    if isinstance(vcs, dict):
        return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
    if url.startswith("file:"):
        raise ConfigurationError(
            f"LocalPipInterpreter: {name} {version} was installed from {url}, which is on this "
            "machine only: install it from an index, or leave it out"
        )
    return f"{name} @ {url}"
