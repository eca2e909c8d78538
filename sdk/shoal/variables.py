"""Environment variables whose values stand in a Secret or ConfigMap of the job's namespace.

They are named as in a Pod's manifest. The values never come by this machine or the custom resource:
Kubernetes reads them when a Pod starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shoal.errors import ConfigurationError


@dataclass(frozen=True)
class SecretKeyRef:
    """A key of a Secret, as the value of one variable; an `optional` one may be missing."""

    name: str
    key: str
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what names nothing."""
        _check(self, "name", "key")


@dataclass(frozen=True)
class ConfigMapKeyRef:
    """A key of a ConfigMap, as the value of one variable; an `optional` one may be missing."""

    name: str
    key: str
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what names nothing."""
        _check(self, "name", "key")


@dataclass(frozen=True)
class SecretRef:
    """A Secret of which each key is a variable, `prefix` put before its name."""

    name: str
    prefix: str = ""
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what names nothing."""
        _check(self, "name")


@dataclass(frozen=True)
class ConfigMapRef:
    """A ConfigMap of which each key is a variable, `prefix` put before its name."""

    name: str
    prefix: str = ""
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse what names nothing."""
        _check(self, "name")


def variable_field(name: str, value: str | SecretKeyRef | ConfigMapKeyRef) -> dict[str, Any]:
    """Return one element of the custom resource's `environmentVariables`."""
    if isinstance(value, str):
        return {"name": name, "value": value}
    kind = "secretKeyRef" if isinstance(value, SecretKeyRef) else "configMapKeyRef"
    optional = {"optional": True} if value.optional else {}
    return {
        "name": name,
        "valueFrom": {kind: {"name": value.name, "key": value.key, **optional}},
    }


def source_field(source: SecretRef | ConfigMapRef) -> dict[str, Any]:
    """Return one element of the custom resource's `envFrom`."""
    kind = "secretRef" if isinstance(source, SecretRef) else "configMapRef"
    optional = {"optional": True} if source.optional else {}
    prefix = {"prefix": source.prefix} if source.prefix else {}
    return {**prefix, kind: {"name": source.name, **optional}}


def _check(reference: object, *names: str) -> None:
    for name in names:
        value = getattr(reference, name)
        if not isinstance(value, str) or not value:
            kind = type(reference).__name__
            raise ConfigurationError(f"{kind}.{name} must be a name in Kubernetes, not {value!r}")
