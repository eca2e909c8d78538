"""What a poetry.lock says has to be installed; read where a job is submitted, or by a builder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

OLDEST = "2.1"
"""Version of poetry.lock that says to which group each package belongs: Poetry 2 writes it."""


def read(folder: str) -> list[str]:
    """Return lines of a requirements.txt: what the group `main` needs, without extras.

    Raises:
        ValueError: there is no lock, or one of Poetry 1, or it names a local folder.
    """
    if os.path.isfile(folder):
        raise ValueError(f"{folder} is a file: pass its folder")
    path = os.path.join(folder, "poetry.lock")
    lock = _toml(path)
    version = str(lock.get("metadata", {}).get("lock-version", ""))
    if version < OLDEST:
        raise ValueError(
            f"{path} has lock-version {version or 'none'}, which does not say what is for "
            f"development only: run `poetry lock` of Poetry 2 ({OLDEST})"
        )
    return [
        _line(package, path)
        for package in lock.get("package", [])
        if "main" in package.get("groups", ()) and not package.get("optional")
    ]


def _line(package: Mapping[str, Any], path: str) -> str:
    name, source = package["name"], package.get("source") or {}
    kind, url = source.get("type", ""), source.get("url", "")
    if kind == "git":
        line = f"{name} @ git+{url}@{source['resolved_reference']}"
    elif kind == "url":
        line = f"{name} @ {url}"
    elif kind in ("directory", "file"):
        raise ValueError(
            f"{path}: {name} is in {url}, a local folder: leave it out (the code itself comes "
            "along), or name a package that an index has"
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


def _toml(path: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        raise ValueError(f"{path} can be read by Python 3.11 and later only") from None
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}: run `poetry lock`") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
