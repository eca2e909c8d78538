"""A container's variables: values, and references to Secrets and ConfigMaps. Pure.

They are a part of a pool's template, and so of its hash: what they refer to counts by its name, not
by its content, which the kubelet reads when a Pod starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

KeyKind = Literal["secretKeyRef", "configMapKeyRef"]
WholeKind = Literal["secretRef", "configMapRef"]
KEY_KINDS: tuple[KeyKind, ...] = ("secretKeyRef", "configMapKeyRef")
WHOLE_KINDS: tuple[WholeKind, ...] = ("secretRef", "configMapRef")


@dataclass(frozen=True, slots=True)
class KeyRef:
    """One key of a Secret or ConfigMap of the Pod's namespace."""

    kind: KeyKind
    name: str
    key: str
    optional: bool = False

    def rendered(self) -> dict[str, Any]:
        """As it stands in a Pod."""
        return {self.kind: {"name": self.name, "key": self.key, "optional": self.optional}}


@dataclass(frozen=True, slots=True)
class WholeRef:
    """A Secret or ConfigMap of the Pod's namespace, each of whose keys is a variable."""

    kind: WholeKind
    name: str
    prefix: str = ""
    optional: bool = False

    def rendered(self) -> dict[str, Any]:
        """As it stands in a Pod."""
        found: dict[str, Any] = {self.kind: {"name": self.name, "optional": self.optional}}
        return {"prefix": self.prefix, **found} if self.prefix else found


Variable = tuple[str, str | KeyRef]
"""A name, and the value or where it stands."""


def variables_of(spec: Mapping[str, Any]) -> tuple[Variable, ...]:
    """Read a Deployment's `environmentVariables`."""
    return tuple(_variable(one) for one in spec.get("environmentVariables") or ())


def sources_of(spec: Mapping[str, Any]) -> tuple[WholeRef, ...]:
    """Read a Deployment's `envFrom`."""
    return tuple(
        WholeRef(kind, told["name"], one.get("prefix") or "", bool(told.get("optional")))
        for one in spec.get("envFrom") or ()
        for kind in WHOLE_KINDS
        if (told := one.get(kind))
    )


def _variable(one: Mapping[str, Any]) -> Variable:
    source = one.get("valueFrom") or {}
    for kind in KEY_KINDS:
        if told := source.get(kind):
            ref = KeyRef(kind, told["name"], told["key"], bool(told.get("optional")))
            return one["name"], ref
    return one["name"], one.get("value") or ""
