"""What an environment.yml or an explicit list names, if it can be had in the cluster.

It is read where a job is submitted, or by a builder from a git repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .urls import has_password

NO_BUILDS = "`conda env export --no-builds` or `--from-history`"
_KEYS = ("name", "prefix", "channels", "dependencies", "variables")
_MARK = "@EXPLICIT"
_PYTHON = re.compile(r"^(?:\S+::)?python(?:\s+|==?)\s*=*(3\.\d+(?:\.\d+)?)(?:\.\*)?(?:[=\s]\S+)?$")
_PYTHON_FILE = re.compile(r"^python-(3\.\d+\.\d+[^-]*)-[^-]+$")
_BUILD = re.compile(r"^[^=\s]+=+[^=]+=[^=]+$")
_ELSEWHERE = re.compile(r"^(/Users/|/opt/homebrew/|[A-Za-z]:[\\/])")
_URL = re.compile(
    r"^https?://\S+?/(?P<subdir>[^\s/#]+)/(?P<name>[^\s/#]+)\.(?:conda|tar\.bz2)"
    r"(?:#(?:sha256:)?[0-9A-Fa-f]+)?$"
)
_TOKEN = re.compile(r"/t/[^/\s]+/")


class CondaFileError(ValueError):
    """The file can't be read, or names what can't be had on the cluster's nodes."""


@dataclass(frozen=True)
class CondaPackages:
    """Conda packages, and what goes beside them.

    Attributes:
        channels: names or URLs, the first before the others.
        packages: match specs.
        explicit: URLs of packages, in place of channels and packages.
        requirements: lines of a requirements.txt, as they stand there.
        python: the version of the Python among them; "" where only the solver can know.
        variables: what is set in the environment.
    """

    channels: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    explicit: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    python: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, list[str]]:
        """Return the resource's field ``conda``."""
        fields = {"channels": self.channels, "packages": self.packages, "explicit": self.explicit}
        return {name: list(some) for name, some in fields.items() if some}


def parse(text: str, where: str, file_format: str | None = None) -> CondaPackages:
    """Return what a file names; a format of None means that its content tells it.

    `where` is the file's name, for errors. Raises CondaFileError (a ValueError).
    """
    is_list = any(line.strip() == _MARK for line in text.splitlines())
    if file_format == "list" and not is_list:
        raise CondaFileError(
            f"{where} has no line {_MARK}: write it with `conda list --explicit --md5`"
        )
    if file_format == "env_export" and is_list:
        raise CondaFileError(f"{where} has a line {_MARK}: its file_format is 'list'")
    return _of_list(text, where) if is_list else _of_yaml(text, where)


def _of_list(text: str, where: str) -> CondaPackages:
    found, python = [], ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#") or line == _MARK:
            continue
        match = _URL.match(line)
        if match is None:
            raise CondaFileError(
                f"{where}: {line!r} is no URL of a package, such as "
                "https://HOST/CHANNEL/linux-64/NAME-VERSION-BUILD.conda"
            )
        refuse_secret(line, f"{where}: the URL of {match['name']}")
        subdir = match["subdir"]
        if subdir != "noarch" and not subdir.startswith("linux-"):
            raise CondaFileError(
                f"{where}: {match['name']} is for {subdir}, and the cluster's nodes run Linux: "
                f"make the list on Linux, or write an environment.yml with {NO_BUILDS}"
            )
        found.append(line)
        if version := _PYTHON_FILE.match(match["name"]):
            python = version[1]
    if not python:
        raise CondaFileError(f"{where}: none of the packages is python, which has to be there")
    return CondaPackages(explicit=tuple(found), python=python)


def _of_yaml(text: str, where: str) -> CondaPackages:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CondaFileError(f"{where} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise CondaFileError(
            f"{where} is neither an environment.yml nor an explicit list: write it with "
            "`conda env export` or `conda list --explicit`"
        )
    if unknown := [str(key) for key in content if key not in _KEYS]:
        raise CondaFileError(
            f"{where}: {', '.join(unknown)}: an environment.yml has {', '.join(_KEYS)}"
        )
    packages, pip = _dependencies(content.get("dependencies"), where)
    _refuse_builds(packages, content.get("prefix"), where)
    return CondaPackages(
        channels=_channels(content.get("channels"), where),
        packages=tuple(packages),
        requirements=tuple(pip),
        python=next(filter(None, map(python_version, packages)), ""),
        variables=_variables(content.get("variables"), where),
    )


def _dependencies(found: Any, where: str) -> tuple[list[str], list[str]]:
    """Return match specs and the lines for pip."""
    packages: list[str] = []
    pip: list[str] = []
    for one in _listed(found, "dependencies", where):
        if isinstance(one, dict) and list(one) == ["pip"]:
            pip += _texts(one["pip"], "dependencies: pip", where)
        else:
            packages += _texts([one], "dependencies", where)
    if not packages:
        raise CondaFileError(
            f"{where}: dependencies names no conda package: name python, or use "
            "shoal.PipRequirementsFile"
        )
    return packages, pip


def _channels(found: Any, where: str) -> tuple[str, ...]:
    channels = [
        name for name in _texts(found, "channels", where) if name != "nodefaults"
    ]  # nothing is added to them anyhow
    for name in channels:
        refuse_secret(name, f"{where}: a channel")
        if not re.match(r"^(https?://|[A-Za-z0-9][^:\\\s,]*$)", name):
            raise CondaFileError(
                f"{where}: the channel {name!r} is on this machine only: name one that Pods reach"
            )
    if not channels:
        raise CondaFileError(
            f"{where} names no channels, and conda's own configuration stays here: add for example "
            "`channels: [conda-forge]`"
        )
    return tuple(dict.fromkeys(channels))


def _variables(found: Any, where: str) -> dict[str, str]:
    if not isinstance(found, (dict, type(None))):
        raise CondaFileError(f"{where}: variables must be names with their values")
    return {str(name): str(value) for name, value in (found or {}).items()}


def _refuse_builds(packages: list[str], prefix: Any, where: str) -> None:
    """Refuse builds that were pinned on a machine which the file shows to run something else."""
    pinned = [package for package in packages if _BUILD.match(package)]
    if pinned and isinstance(prefix, str) and _ELSEWHERE.match(prefix):
        raise CondaFileError(
            f"{where}: {pinned[0]} is a build for the machine that has {prefix}, and the cluster's "
            f"nodes run Linux: write the file with {NO_BUILDS}"
        )


def _listed(found: Any, field: str, where: str) -> list[Any]:
    if not isinstance(found, (list, type(None))):
        raise CondaFileError(f"{where}: {field} must be a list, not {found!r}")
    return found or []


def _texts(found: Any, field: str, where: str) -> list[str]:
    for one in _listed(found, field, where):
        if not isinstance(one, str) or not one.strip():
            raise CondaFileError(f"{where}: {field}: {one!r} is no text: put it into quotes")
    return [one.strip() for one in found or ()]


def python_version(package: str) -> str:
    """Return the version of Python that a match spec names, "" if it leaves one open."""
    match = _PYTHON.match(package.strip())
    return match[1] if match else ""


def refuse_secret(url: str, what: str) -> None:
    """Refuse a URL with a password or an access token in it."""
    if has_password(url) or _TOKEN.search(url):
        raise CondaFileError(
            f"{what} has a password or a token in it, which whoever reads the job could read: name "
            "one that needs none"
        )
