"""What Job, MapJob and Deployment share: the envelope, and the way to and from manifests."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field

from .kinds import API_VERSION, KINDS, Kind
from .metadata import Metadata
from .model import Model
from .rules import Rule
from .validation import InvalidResource

NAME_LENGTH = 63

_NAME_RULE = Rule(
    f"self.metadata.name.size() <= {NAME_LENGTH}",
    f"metadata.name must have at most {NAME_LENGTH} characters: worker Pods carry it as a label",
    holds=lambda r: r.metadata.name is None or len(r.metadata.name) <= NAME_LENGTH,
)
STATUS_STAYS = Rule(
    "!has(oldSelf.status) || !has(oldSelf.status.ledger) || "
    "(has(self.status) && has(self.status.ledger))",
    "status.ledger can't be removed: it says which results are settled",
    "status",
)


class Resource(Model):
    """A custom resource of shoal.dev; `to_yaml` gives what `kubectl apply` takes."""

    names: ClassVar[Kind]
    rules: ClassVar[tuple[Rule, ...]] = (_NAME_RULE,)

    api_version: Literal["shoal.dev/v1alpha1"] = API_VERSION
    kind: str = ""
    metadata: Metadata = Field(default_factory=Metadata)

    @classmethod
    def _owner(cls, fields: dict[str, Any]) -> str:
        metadata = fields.get("metadata")
        name = (
            metadata.name
            if isinstance(metadata, Metadata)
            else metadata.get("name")
            if isinstance(metadata, dict)
            else None
        )
        return f"{cls.names.crd_name}/{name}" if name else cls.names.crd_name

    @property
    def name(self) -> str:
        """metadata.name, or an empty string before the API server made one."""
        return self.metadata.name or ""

    @property
    def full_name(self) -> str:
        """How messages and kubectl name it: `jobs.shoal.dev/x`."""
        return f"{self.names.crd_name}/{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest: apiVersion, kind, and only what was set below them."""
        return {"apiVersion": self.api_version, "kind": self.kind} | super().to_dict()

    def to_yaml(self) -> str:
        """Return the manifest as YAML, in the order that people write it."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Read one manifest; raise InvalidResource naming the field and the remedy."""
        data = yaml.safe_load(text)
        if not isinstance(data, dict):
            raise InvalidResource(cls.names.crd_name, [((), "the manifest is not a YAML object")])
        return cls.from_dict(data)


def resource_from_dict(data: dict[str, Any]) -> Resource:
    """Read a manifest of any of our kinds by its `kind`."""
    kind = data.get("kind")
    for model in Resource.__subclasses__():
        if model.names.kind == kind:
            return model.from_dict(data)
    known = ", ".join(KINDS)
    raise InvalidResource(str(kind), [(("kind",), f"must be one of {known} of {API_VERSION}")])
