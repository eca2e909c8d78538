"""What Job, MapJob and Deployment share: envelope, manifests, the way to a cluster and back.

`apply`, `get` and `delete` import the Kubernetes machinery when they are called: who only builds
manifests does not pay for it.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field

from .kinds import API_VERSION, GROUP, KINDS, VERSION, Kind
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

    async def apply(
        self, *, namespace: str | None = None, context: str | None = None, dry_run: bool = False
    ) -> Self:
        """Create or change it in the cluster (server-side apply) and return what stands there.

        `namespace` defaults to metadata.namespace, then SHOAL_NAMESPACE, then "default"; `context`
        to the kubeconfig's current one; `dry_run` asks the API server and changes nothing. With a
        generateName in place of a name it is created anew. Raises shoal.errors.ApiError.
        """
        from shoal import kube

        client, kind = await kube.shared(context), self._api(kube)
        space = _namespace(namespace or self.metadata.namespace)
        body = self.to_dict()
        body.pop("status", None)
        body["metadata"] = {
            key: value for key, value in body.get("metadata", {}).items() if key in _WRITABLE
        } | {"namespace": space}
        if self.metadata.name is None:
            found = await client.create(kind, body, space, dry_run=dry_run)
        else:
            found = await client.patch(
                kind, self.metadata.name, body, space, style="apply", dry_run=dry_run
            )
        return self.from_dict(found)

    @classmethod
    async def get(
        cls, name: str, *, namespace: str | None = None, context: str | None = None
    ) -> Self:
        """Read it from the cluster; raise shoal.errors.ApiError, status 404 if it is not there."""
        from shoal import kube

        client = await kube.shared(context)
        return cls.from_dict(await client.get(cls._api(kube), name, _namespace(namespace)))

    async def delete(self, *, namespace: str | None = None, context: str | None = None) -> None:
        """Delete it from the cluster; one that is gone already is no error."""
        from shoal import kube

        client = await kube.shared(context)
        space = _namespace(namespace or self.metadata.namespace)
        await client.delete(self._api(kube), self.name, space)

    @classmethod
    def _api(cls, kube: ModuleType) -> Any:
        return kube.Resource(GROUP, VERSION, cls.names.plural, cls.names.kind)


_WRITABLE = ("name", "generateName", "labels", "annotations", "ownerReferences", "finalizers")


def _namespace(chosen: str | None) -> str:
    return chosen or os.environ.get("SHOAL_NAMESPACE") or "default"


def resource_from_dict(data: dict[str, Any]) -> Resource:
    """Read a manifest of any of our kinds by its `kind`."""
    kind = data.get("kind")
    for model in Resource.__subclasses__():
        if model.names.kind == kind:
            return model.from_dict(data)
    known = ", ".join(KINDS)
    raise InvalidResource(str(kind), [(("kind",), f"must be one of {known} of {API_VERSION}")])
