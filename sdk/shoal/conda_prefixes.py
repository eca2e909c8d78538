"""What is installed in a conda environment of this machine, read without conda."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.errors import ConfigurationError
from shoal.worker.conda_file import CondaFileError, CondaPackages, refuse_secret

META = "conda-meta"
WHO = "LocalCondaInterpreter"


@dataclass(frozen=True)
class Installed:
    """What is in an environment: its conda packages, and name, version and origin of pip's."""

    conda: CondaPackages
    pip: tuple[tuple[str, str, dict[str, Any]], ...]


def find(name_or_path: str) -> Path:
    """Return the folder of an environment.

    Raises:
        ConfigurationError: there is none.
    """
    path = Path(os.path.abspath(os.path.expanduser(name_or_path)))
    if (path / META).is_dir():
        return path
    if os.path.basename(name_or_path) != name_or_path or not name_or_path:
        raise ConfigurationError(
            f"{WHO}: {name_or_path!r} is no conda environment: it has no {META}"
        )
    tried = list(dict.fromkeys(_candidates(name_or_path)))
    for candidate in tried:
        if (candidate / META).is_dir():
            return candidate
    places = ", ".join(str(candidate) for candidate in tried) or "no place is known"
    raise ConfigurationError(
        f"{WHO}: there is no conda environment {name_or_path!r} ({places}): pass its path, as "
        "`conda env list` prints it"
    )


def read(prefix: Path) -> Installed:
    """Return what is installed in the environment at `prefix`.

    Packages for another system than Linux don't help there: of such an environment only those count
    that somebody asked for by name, at the versions that it has.

    Raises:
        ConfigurationError: something in it can't be had elsewhere.
    """
    records = [_record(path) for path in sorted((prefix / META).glob("*.json"))]
    records = [record for record in records if "name" in record]
    python = [record["version"] for record in records if record["name"] == "python"]
    if not python:
        raise ConfigurationError(f"{WHO}: {prefix} has no package python, which has to be there")
    platforms = {str(record.get("subdir", "")) for record in records} - {"noarch", ""}
    chosen = records
    if foreign := sorted(name for name in platforms if not name.startswith("linux-")):
        chosen = [one for one in records if _is_asked_for(one) or one["name"] == "python"]
        if len(chosen) == 1 and len(records) > 1:
            raise ConfigurationError(
                f"{WHO}: {prefix} is for {foreign[0]}, the cluster's nodes run Linux, and the "
                "environment does not tell which packages were asked for: write an environment.yml "
                "with `conda env export --from-history`, and pass shoal.CondaEnvironmentFile"
            )
    channels = Counter(_channel(record, prefix) for record in chosen)
    conda = CondaPackages(
        channels=tuple(name for name, _ in channels.most_common()),
        packages=tuple(f"{record['name']}=={record['version']}" for record in chosen),
        python=str(python[0]),
    )
    return Installed(conda, tuple(_of_pip(prefix, records)))


def _candidates(name: str) -> Iterator[Path]:
    """Give the folders in which an environment of that name may be."""
    active = os.environ.get("CONDA_PREFIX")
    if active and os.environ.get("CONDA_DEFAULT_ENV", os.path.basename(active)) == name:
        yield Path(active)
    roots = list(_roots())
    if name == "base":
        yield from roots
    for variable in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"):
        for folder in filter(None, os.environ.get(variable, "").split(os.pathsep)):
            yield Path(folder).expanduser() / name
    for root in roots:
        yield root / "envs" / name
    known = Path.home() / ".conda"
    yield known / "envs" / name
    if (known / "environments.txt").is_file():
        for line in (known / "environments.txt").read_text(encoding="utf-8").splitlines():
            if os.path.basename(line.strip()) == name:
                yield Path(line.strip())


def _roots() -> Iterator[Path]:
    """Give the folders in which conda itself may be."""
    active = Path(os.environ.get("CONDA_PREFIX", ""))
    if active.name:
        yield active.parent.parent if active.parent.name == "envs" else active
    if root := os.environ.get("MAMBA_ROOT_PREFIX"):
        yield Path(root)
    programs = (shutil.which(name) for name in ("conda", "mamba", "micromamba"))
    for program in filter(None, (os.environ.get("CONDA_EXE"), *programs)):
        yield Path(os.path.realpath(program)).parent.parent


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{WHO}: {path} can't be read: {error}") from error
    return record if isinstance(record, dict) else {}


def _is_asked_for(record: dict[str, Any]) -> bool:
    return bool(record.get("requested_spec") or record.get("requested_specs"))


def _channel(record: dict[str, Any], prefix: Path) -> str:
    """Return the URL of the channel that a package came from."""
    what = f"{WHO}: {record['name']} {record['version']} in {prefix}"
    url = str(record.get("url") or "")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{what} was installed from {url or 'nowhere that it tells'}, which is on this machine "
            "only: install it from a channel"
        )
    try:
        refuse_secret(url, f"{what}: its URL")
    except CondaFileError as error:
        raise ConfigurationError(str(error)) from error
    return url.rsplit("/", 2)[0]


def _of_pip(
    prefix: Path, records: list[dict[str, Any]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give what pip, or a tool like it, has installed beside the conda packages."""
    owned = {
        os.path.basename(os.path.dirname(file))
        for record in records
        for file in record.get("files") or ()
        if file.endswith(("/METADATA", "/PKG-INFO"))
    }
    folders = [*prefix.glob("lib/python3*/site-packages"), *prefix.glob("Lib/site-packages")]
    for one in importlib.metadata.distributions(path=[str(folder) for folder in folders]):
        name = one.metadata["Name"]
        folder = getattr(one, "_path", None)
        installer = (one.read_text("INSTALLER") or "").strip()
        if name and installer != "conda" and (folder is None or folder.name not in owned):
            yield name, one.version, json.loads(one.read_text("direct_url.json") or "{}")
