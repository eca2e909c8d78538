"""What a project's lock file, or a script's own header, says has to be installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shoal import requirement_lines
from shoal.errors import ConfigurationError

EXPORT_SECONDS = 60.0
POETRY_LOCKS = "2.1"
"""Version of poetry.lock that says to which group each package belongs: Poetry 2 writes it."""
_HEADER = re.compile(r"^# /// script[ \t]*\n(?P<lines>(?:#(?: .*)?\n)*?)# ///[ \t]*$", re.MULTILINE)


def of_uv_project(folder: Path) -> list[str]:
    """Return the lines of a uv project's lock, without its development groups and itself.

    Raises:
        ConfigurationError: there is no lock, or no uv, or uv refuses it.
    """
    for name in ("pyproject.toml", "uv.lock"):
        if not (folder / name).is_file():
            raise ConfigurationError(f"UvProjectPath: there is no {folder / name}: run `uv lock`")
    uv = shutil.which("uv")
    if uv is None:
        raise ConfigurationError(
            f"UvProjectPath: uv, which reads {folder / 'uv.lock'}, is not on the PATH"
        )
    argv = [uv, "export", "--frozen", "--no-emit-workspace", "--no-default-groups", "--no-header"]
    argv += ["--quiet", "--no-annotate", "--format", "requirements.txt", "--project", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=EXPORT_SECONDS, check=False)
    if done.returncode:
        raise ConfigurationError(f"UvProjectPath: {folder}: {done.stderr.strip()}")
    return requirement_lines.of_text(done.stdout, folder / "uv.lock")


def of_poetry_project(folder: Path) -> list[str]:
    """Return the lines of a poetry.lock: what its group `main` needs, without extras.

    Raises:
        ConfigurationError: there is no lock, or one of Poetry 1, or it names a local folder.
    """
    if folder.is_file():
        raise ConfigurationError(f"PoetryProjectPath: {folder} is a file: pass its folder")
    path = folder / "poetry.lock"
    lock = _toml(path, "PoetryProjectPath")
    version = str(lock.get("metadata", {}).get("lock-version", ""))
    if version < POETRY_LOCKS:
        raise ConfigurationError(
            f"PoetryProjectPath: {path} has lock-version {version or 'none'}, which does not say "
            f"what is for development only: run `poetry lock` of Poetry 2 ({POETRY_LOCKS})"
        )
    lines = [
        _line(package, path)
        for package in lock.get("package", [])
        if "main" in package.get("groups", ()) and not package.get("optional")
    ]
    for line in lines:
        requirement_lines.check(line, path)
    return lines


def of_script(path: Path) -> list[str]:
    """Return the dependencies in a script's header (PEP 723).

    Raises:
        ConfigurationError: there is no such header, or it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"ScriptRequirements: {path}: {error.strerror}") from error
    header = _HEADER.search(text)
    if header is None:
        raise ConfigurationError(
            f"ScriptRequirements: {path} has no header `# /// script` (PEP 723) that names its "
            "dependencies"
        )
    lines = [line[2:] for line in header["lines"].strip().splitlines()]
    try:
        found = tomllib.loads("\n".join(lines)).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"ScriptRequirements: {path}: its header: {error}") from error
    return requirement_lines.of_text("\n".join(found), path)


def _line(package: Mapping[str, Any], path: Path) -> str:
    name, source = package["name"], package.get("source") or {}
    kind, url = source.get("type", ""), source.get("url", "")
    if kind == "git":
        line = f"{name} @ git+{url}@{source['resolved_reference']}"
    elif kind == "url":
        line = f"{name} @ {url}"
    elif kind in ("directory", "file"):
        raise ConfigurationError(
            f"PoetryProjectPath: {path}: {name} is in {url}, which is on this machine only: leave "
            "it out (Deployment.mirror_local brings your code along)"
        )
    else:
        line = f"{name}=={package['version']}"
    if marker := _marker(package):
        line += f" ; {marker}"
    return " ".join([line, *(() if kind in ("git", "url") else _hashes(package))])


def _marker(package: Mapping[str, Any]) -> str:
    markers = package.get("markers", "")
    return str(markers.get("main", "") if isinstance(markers, Mapping) else markers)


def _hashes(package: Mapping[str, Any]) -> Iterator[str]:
    for file in package.get("files", ()):
        yield f"--hash={file['hash']}"


def _toml(path: Path, who: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{who}: {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{who}: {path}: {error}") from error
