"""What the environment that is active here consists of, for a job that names no interpreter.

A project of Poetry or uv says it in its lock. Otherwise it is what is installed beside this Python,
by pip or conda, at the versions that it has: without Shoal itself, and without what nothing but
Shoal needs, so that a fresh `pip install shoal` brings nothing along. Requirements that hold on
this platform only stay here; the builder finds those of its own.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from shoal.errors import ConfigurationError
from shoal.interpreters import PoetryProjectPath, UvProjectPath
from shoal.requirement_lines import of_installed

SWITCH = "SHOAL_MIRROR_ENVIRONMENT"
OURS = "shoal"
TOOLS = frozenset({"pip", "setuptools", "wheel", "distribute", "uv"})
"""Installers, which an environment has without being asked."""
PLATFORM = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}
REMEDY = (
    f"name the packages that the job needs (interpreter=shoal.PipRequirementsFile(...)), or set "
    f"{SWITCH}=false to bring none"
)


def is_wanted() -> bool:
    """Tell whether jobs that name no interpreter bring the active environment along."""
    value = os.environ.get(SWITCH, "true").lower()
    if value not in ("true", "false", "1", "0"):
        raise ConfigurationError(f"{SWITCH} must be true or false; it is {value!r}")
    return value in ("true", "1")


def project() -> PoetryProjectPath | UvProjectPath | None:
    """Return the project whose environment this is, if it has a lock that can be read."""
    python = "{}.{}".format(*sys.version_info[:2])
    here = Path.cwd()
    for folder in (here, *here.parents):
        if not (folder / "pyproject.toml").is_file():
            continue
        if (folder / "uv.lock").is_file() and Path(sys.prefix) == folder / ".venv":
            return UvProjectPath(str(folder), python)
        if (folder / "poetry.lock").is_file() and _is_of_poetry(folder):
            return PoetryProjectPath(str(folder), python)
        return None
    return None


def _is_of_poetry(folder: Path) -> bool:
    """Tell whether this is the virtual environment of a project: its own, or one named after it."""
    try:
        content = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except ValueError:
        return False
    for project in (content.get("project"), content.get("tool", {}).get("poetry")):
        name = re.sub(r"[^a-z0-9_.]+", "-", str((project or {}).get("name") or "").lower())
        if name and re.match(re.escape(name) + r"-\S{8}-py3", Path(sys.prefix).name.lower()):
            return True
    return Path(sys.prefix) == folder / ".venv"


def conda_prefix() -> Path | None:
    """Return the folder of the conda environment that this Python is of, if it is of one."""
    return Path(sys.prefix) if os.path.isdir(os.path.join(sys.prefix, "conda-meta")) else None


def requirements() -> tuple[str, ...]:
    """Return a line for each package that the code here may need.

    Raises:
        ConfigurationError: one of them is on this machine only.
    """
    return _lines(_kept(_stamps()))


def names() -> frozenset[str]:
    """Return the names of those packages, in lower case and with dashes."""
    return frozenset(key_of(one.name) for one in _kept(_stamps()))


def _stamps() -> tuple[tuple[str, int], ...]:
    return tuple((name, os.stat(name).st_mtime_ns) for name in folders() if os.path.isdir(name))


def folders() -> tuple[str, ...]:
    """Return the folders that packages are installed in, in the order in which they are found."""
    installed = ("site-packages", "dist-packages")
    return tuple(path for path in sys.path if os.path.basename(path) in installed)


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    needs: frozenset[str]
    requested: bool
    origin: Mapping[str, object] = field(hash=False)


@lru_cache(maxsize=4)
def _kept(stamps: tuple[tuple[str, int], ...]) -> tuple[_Package, ...]:
    """Read what is installed in folders, with the times at which something was, for the cache."""
    found: dict[str, _Package] = {}
    for package in _installed([name for name, _ in stamps]):
        found.setdefault(key_of(package.name), package)  # as `import` does
    needed = {name for one in found.values() for name in one.needs}
    roots = {
        name
        for name, one in found.items()
        if name != OURS and name not in TOOLS and (one.requested or name not in needed)
    }
    return tuple(found[name] for name in sorted(_closure(roots, found)))


@lru_cache(maxsize=4)
def _lines(kept: tuple[_Package, ...]) -> tuple[str, ...]:
    return tuple(line for line in map(_line, kept) if line)


def _installed(folders: list[str]) -> Iterator[_Package]:
    for one in metadata.distributions(path=folders):
        name = one.metadata["Name"]
        if name:  # else what is left of something uninstalled
            yield _Package(
                name,
                one.version,
                frozenset(_needs(one.requires or ())),
                # uv says it of whatever it installs
                one.read_text("REQUESTED") is not None and _installer(one) != "uv",
                json.loads(one.read_text("direct_url.json") or "{}"),
            )


def _installer(package: metadata.Distribution) -> str:
    return (package.read_text("INSTALLER") or "").strip()


def _needs(requirements: Iterable[str]) -> Iterator[str]:
    """Yield what a package may need on the nodes' platform, with any of its extras."""
    for text in requirements:
        try:
            one = Requirement(text)
        except InvalidRequirement:
            continue
        extras = ["", *re.findall(r"""extra == ['"]([^'"]+)""", text)]
        if one.marker is None or any(one.marker.evaluate({**PLATFORM, "extra": e}) for e in extras):
            yield key_of(one.name)


def _closure(roots: set[str], found: Mapping[str, _Package]) -> set[str]:
    reached, waiting = set[str](), list(roots)
    while waiting:
        name = waiting.pop()
        if name in found and name not in reached and name != OURS:
            reached.add(name)
            waiting += found[name].needs
    return reached


def _line(package: _Package) -> str:
    """Return a line for an installed package; none for an editable one that is mirrored."""
    folder, url = package.origin.get("dir_info"), str(package.origin.get("url") or "")
    if not isinstance(folder, dict) or not folder.get("editable"):
        what = "The active environment"
        return of_installed(package.name, package.version, package.origin, what, REMEDY)
    path = unquote(urlsplit(url).path)
    if any(_overlap(path, os.path.abspath(entry)) for entry in sys.path):
        return ""
    raise ConfigurationError(
        f"The active environment: {package.name} {package.version} is installed in place from "
        f"{path}, which is not on sys.path: name it in "
        f"Deployment.mirror_local(additional_sys_paths=...), or {REMEDY}"
    )


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + os.sep) or other.startswith(one + os.sep)


def key_of(name: str) -> str:
    """Return a package's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()
