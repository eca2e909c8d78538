"""The versions that are pinned: `versions.toml`, and for Go programs `modules/*/go.mod`."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from cluster.folders import SOURCE

MODULES = SOURCE / "modules"


@cache
def versions() -> dict[str, Any]:
    """The content of versions.toml."""
    return tomllib.loads((SOURCE / "versions.toml").read_text())


@cache
def module_version(folder: str, module: str) -> str:
    """The version of `module` that ``modules/<folder>/go.mod`` requires, such as ``v1.34.4``."""
    return required_version((MODULES / folder / "go.mod").read_text(), module)


def required_version(go_mod: str, module: str) -> str:
    """The version of `module` that a go.mod requires; raises LookupError."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise LookupError(f"no requirement of {module}")
    return found.group(1)


def kubernetes() -> str:
    """The version of every Kubernetes program, such as ``v1.34.4``."""
    return module_version("kubernetes", "k8s.io/kubernetes")


def minio() -> str:
    """MinIO's module has no tags of its own: the day of its commit is the version, ``20260212``."""
    return module_version("minio", "github.com/minio/minio").split("-")[1][:8]


def lock_files(folder: str) -> list[Path]:
    """What pins the module."""
    return [MODULES / folder / "go.mod", MODULES / folder / "go.sum"]
