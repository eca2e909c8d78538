"""Installs Python packages into the environment: by uv, and by py-rattler where it is conda's."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from typing import Any

from . import PROTOCOL, checkout, conda, poetry_lock
from .environment import folder, source_folder
from .patience import Patience
from .tools import BuildFailed, run
from .transport import Refused, Unreachable, line_from_environment

INDEX_HINT = (
    "name an index that Pods can reach: SHOAL_PACKAGE_INDEX where you submit, an --index-url among "
    "the requirements, or the chart's environments.variables; or, where you did not ask for these "
    "packages, bring none: SHOAL_MIRROR_ENVIRONMENT=false"
)
CONDA_FORMATS = {"conda": "", "conda-env-export": "env_export", "conda-list": "list"}
"""Formats of a repository's file for conda, and what conda calls them; "" is either."""
_INDEX = re.compile(r"^(-i|--index-url|--default-index)(\s|=)", re.MULTILINE)
PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg")


def install(wanted: dict[str, Any], sources: list[str]) -> dict[str, Any]:
    """Make the environment, and install what is `wanted` in it.

    Return the version of its ``python``, and whether that is one of ``conda``.

    `wanted` is that of `building.build`, its repository checked out; `sources` are lines of a
    sources.list, for git where a package comes from a repository.

    Raises:
        BuildFailed: with the tool's words.
    """
    requirements, git = wanted.get("requirements") or [], wanted.get("git") or {}
    from_file = git.get("packages")
    own = bool(requirements or from_file)
    by_conda = wanted.get("conda")
    if from_file and from_file["format"] in CONDA_FORMATS:
        by_conda = {
            "file": _path_of(from_file),
            "format": CONDA_FORMATS[from_file["format"]],
            "pip": _pip_file(from_file),
        }
    _fetch("uv", "/v1/uv")
    os.chmod(_path("uv"), 0o755)
    if by_conda:
        _install_conda(by_conda)
    else:
        shown = () if own else ("--system-site-packages",)
        _uv("venv", "--quiet", "--allow-existing", *shown, "--python", sys.executable, folder())
    if own:
        _install_packages(requirements, from_file, sources)
    if from_file and git.get("editable"):
        _install_in_place(from_file["path"], requirements)
    python = conda.version_of_python(folder()) if by_conda else platform.python_version()
    return {"python": python, "conda": bool(by_conda)}


def _install_conda(wanted: dict[str, Any]) -> None:
    _fetch("rattler.tar", "/v1/rattler")
    run(*conda.command(wanted, _path("rattler.tar"), folder()))
    os.remove(_path("rattler.tar"))


def _install_packages(
    requirements: list[str], from_file: dict[str, str] | None, sources: list[str]
) -> None:
    files = []
    if from_file:
        files = [_requirements_of(from_file)]
        with open(files[0], encoding="utf-8") as file:
            if _INDEX.search(file.read()):  # it says itself where packages come from
                requirements = [line for line in requirements if not _INDEX.match(line)]
    files.append(_written("requirements.txt", requirements))
    for path in files:
        with open(path, encoding="utf-8") as file:
            if "git+" in file.read():
                checkout.offer_git(sources)
    options = [word for file in files for word in ("--requirement", file)]
    # what a file says of folders is meant from its own on
    _pip_install("--compile-bytecode", *options, where=os.path.dirname(files[0]))


def _install_in_place(path: str, requirements: list[str]) -> None:
    """Install the project that is, or has, the file at `path` of the repository."""
    project = os.path.normpath(os.path.join(source_folder(), path))
    project = project if os.path.isdir(project) else os.path.dirname(project)
    if any(os.path.exists(os.path.join(project, name)) for name in PROJECTS):
        options = [word for line in requirements if line.startswith("-") for word in line.split()]
        _pip_install(*options, "--editable", project)


def _path_of(packages: dict[str, str]) -> str:
    path = os.path.normpath(os.path.join(source_folder(), packages["path"]))
    if not os.path.exists(path):
        raise BuildFailed(f"the repository has no {packages['path']}")
    return path


def _requirements_of(packages: dict[str, str]) -> str:
    """Return the path of a requirements.txt with what a file of the repository says."""
    path, kind = _path_of(packages), packages["format"]
    if kind in CONDA_FORMATS:
        return _pip_file(packages)
    if kind == "uv":
        target = _path("exported.txt")
        how = ("--frozen", "--no-emit-workspace", "--no-default-groups", "--no-header")
        _uv("export", *how, "--quiet", "--no-annotate", "--project", path, "--output-file", target)
        return target
    if kind == "poetry":
        try:
            return _written("locked.txt", poetry_lock.read(path))
        except ValueError as error:
            raise BuildFailed(str(error)) from error
    if os.path.isdir(path):
        raise BuildFailed(f"{packages['path']} is a folder of the repository: name the file")
    return path


def _pip_file(packages: dict[str, str]) -> str:
    """Return where the lines for pip of a file for conda are written: they may name others."""
    return os.path.join(os.path.dirname(_path_of(packages)), ".shoal-requirements.txt")


def _written(name: str, lines: Iterable[str]) -> str:
    with open(_path(name), "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return _path(name)


def _pip_install(*options: str, where: str | None = None) -> None:
    python = os.path.join(folder(), "bin", "python")
    _uv("pip", "install", "--python", python, *options, hint=INDEX_HINT, where=where)


def _uv(*argv: str, hint: str = "", where: str | None = None) -> None:
    try:
        run(
            _path("uv"),
            *argv,
            hint=hint,
            folder=where,
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


def _path(name: str) -> str:
    """Return the path of a file that is there for the time of the build."""
    return os.path.join(os.environ["SHOAL_SCRATCH"], name)


def _fetch(name: str, route: str) -> None:
    """Fetch a tool that the operator serves."""
    line, patience = line_from_environment(PROTOCOL), Patience()
    while True:
        try:
            with open(_path(name), "wb") as file:
                line.fetch(route, file)
            return
        except (Unreachable, Refused) as error:
            patience.pause(error)
