"""The lines of a requirements.txt, without what only this machine knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from shoal.errors import ConfigurationError, NotSupportedYet
from shoal.worker.urls import has_password

READABLE = (
    "has a password or a token in it, which whoever reads the job could read: use an index that "
    "needs none, such as a mirror in the cluster"
)
_LOCAL = re.compile(r"^(\.|/|~|file:|[A-Za-z]:\\)|^[^:]*(/|\\|\.whl$|\.tar\.gz$|\.zip$)")
_LINKS = re.compile(r"^(-f|--find-links)(\s+|=)")
_EDITABLE = re.compile(r"^(-e|--editable)(\s|=|$)")
_INCLUDE = re.compile(r"^(-r|--requirement)(\s+|=)?(?P<path>.+)$")
_INDEX = re.compile(r"^(-i|--index-url|--default-index)(\s|=)")
_CONSTRAINT = re.compile(r"^(-c|--constraint)(\s|=|$)")


def of_file(path: Path, includers: tuple[Path, ...] = ()) -> list[str]:
    """Return the file's lines, those of the files that it includes in their places.

    Raises:
        ConfigurationError: a file is missing, or a line names what is on this machine only, or a
            password.
    """
    whose = f", which {includers[-1]} includes" if includers else ""
    if path in includers:
        raise ConfigurationError(f"PipRequirementsFile: {path}{whose}, includes itself")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigurationError(f"PipRequirementsFile: {path}{whose}: {why}") from error
    return of_text(text, path, includers)


def of_text(text: str, path: Path, includers: tuple[Path, ...] = ()) -> list[str]:
    """Return the lines of a text that stands in `path`; raises as `of_file` does."""
    found: list[str] = []
    for raw in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*$", "", raw)).strip()
        if not line:
            continue
        if include := _INCLUDE.match(line):
            found += of_file(path.parent / include["path"].strip(), (*includers, path))
            continue
        check(line, path)
        found.append(line)
    return found


def of_installed(
    name: str, version: str, origin: Mapping[str, object], who: str, otherwise: str
) -> str:
    """Return the line for an installed package; none for an editable one, which is code.

    `origin` is its direct_url.json. Raises ConfigurationError, which begins with `who`, if it came
    from this machine only; `otherwise` is what can be done then.
    """
    folder, url = origin.get("dir_info"), str(origin.get("url") or "")
    if isinstance(folder, dict) and folder.get("editable"):
        return ""
    if has_password(url):
        raise ConfigurationError(
            f"{who}: the URL that {name} {version} was installed from {READABLE}; or {otherwise}"
        )
    vcs = origin.get("vcs_info")
    if isinstance(vcs, dict):
        return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
    if url.startswith("file:"):
        raise ConfigurationError(
            f"{who}: {name} {version} was installed from {url}, which is on this machine only: "
            f"install it from an index, or {otherwise}"
        )
    return f"{name} @ {url}" if url else f"{name}=={version}"


def check(line: str, path: Path) -> None:
    """Refuse a line that can't be carried out elsewhere, or should not be read there."""
    if _CONSTRAINT.match(line):
        raise NotSupportedYet(
            f"{path}: {line!r}: constraints come with a later version: pin the versions in the "
            "requirements, for example with `uv pip compile`"
        )
    if has_password(line):
        name = re.split(r"[\s=]", line)[0]
        raise ConfigurationError(f"{path}: a line that begins with {name!r} {READABLE}")
    if _EDITABLE.match(line) or _LOCAL.search(_target(line)):
        raise ConfigurationError(
            f"{path}: {line!r} is on this machine only: leave it out (Deployment.mirror_local "
            "brings your code along), or name a package that an index has"
        )


def names_index(lines: list[str]) -> bool:
    """Tell whether the lines say themselves where packages come from."""
    return any(_INDEX.match(line) for line in lines)


def _target(line: str) -> str:
    """Return the part of a requirement that says where it is: a path, a URL, or its mere name."""
    if _LINKS.match(line):
        return _LINKS.sub("", line)
    if line.startswith("-"):
        return ""
    _, at, where = line.partition(" @ ")
    return re.split(r"[\s;]", where if at else line)[0]
