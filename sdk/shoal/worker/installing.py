"""Installs Python packages into the environment: by uv, and by py-rattler where it is conda's."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

from . import PROTOCOL, checkout, conda, poetry_lock
from .environment import folder, source_folder
from .tools import BuildFailed, Patience, run
from .transport import Refused, Unreachable, line_from_environment

INDEX_HINT = (
    "name an index that Pods can reach: SHOAL_PACKAGE_INDEX where you submit, an --index-url among "
    "the requirements, or the chart's environments.variables"
)
PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg")


def install(wanted: dict[str, Any], sources: list[str]) -> str:
    """Make the environment, and install what is `wanted` in it; return the version of its Python.

    `wanted` is that of `building.build`, its repository checked out; `sources` are lines of a
    sources.list, for git where a package comes from a repository.

    Raises:
        BuildFailed: with the tool's words.
    """
    requirements, git = wanted.get("requirements") or [], wanted.get("git") or {}
    from_file = git.get("packages")
    wants = bool(requirements or from_file)
    python = platform.python_version()
    if wanted.get("conda"):
        python = _make_conda(wanted["conda"])
    if wants or not wanted.get("conda"):
        _fetch("uv", "/v1/uv")
        os.chmod(_path("uv"), 0o755)
    if not wanted.get("conda"):
        shown = () if wants else ("--system-site-packages",)
        _uv("venv", "--quiet", "--allow-existing", *shown, "--python", sys.executable, folder())
    if wants:
        _install_packages(requirements, from_file, sources)
    if from_file and git.get("editable"):
        _install_in_place(from_file["path"], requirements)
    return python


def _make_conda(wanted: dict[str, Any]) -> str:
    """Install conda packages; return the version of the Python among them."""
    _fetch("rattler.tar", "/v1/rattler")
    run(*conda.command(wanted, _path("rattler.tar"), folder()))
    os.remove(_path("rattler.tar"))
    return conda.version_of_python(folder())


def _install_packages(
    requirements: list[str], from_file: dict[str, str] | None, sources: list[str]
) -> None:
    files = [_written("requirements.txt", requirements)]
    if from_file:
        files.append(_requirements_of(from_file))
    for path in files:
        with open(path, encoding="utf-8") as file:
            if "git+" in file.read():
                checkout.offer_git(sources)
    _pip_install("--compile-bytecode", *(word for file in files for word in ("-r", file)))


def _install_in_place(path: str, requirements: list[str]) -> None:
    """Install the project that is, or has, the file at `path` of the repository."""
    project = os.path.normpath(os.path.join(source_folder(), path))
    project = project if os.path.isdir(project) else os.path.dirname(project)
    if any(os.path.exists(os.path.join(project, name)) for name in PROJECTS):
        options = [word for line in requirements if line.startswith("-") for word in line.split()]
        _pip_install(*options, "--editable", project)


def _requirements_of(packages: dict[str, str]) -> str:
    """Return the path of a requirements.txt with what a file of the repository says."""
    path = os.path.normpath(os.path.join(source_folder(), packages["path"]))
    kind = packages["format"]
    if not os.path.exists(path):
        raise BuildFailed(f"the repository has no {packages['path']}")
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


def _written(name: str, lines: Iterable[str]) -> str:
    with open(_path(name), "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return _path(name)


def _pip_install(*options: str) -> None:
    python = os.path.join(folder(), "bin", "python")
    _uv("pip", "install", "--python", python, *options, hint=INDEX_HINT)


def _uv(*argv: str, hint: str = "") -> None:
    try:
        run(
            _path("uv"),
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
