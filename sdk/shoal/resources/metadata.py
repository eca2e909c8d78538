"""The part of Kubernetes' ObjectMeta that Shoal reads or writes.

What the API server adds beyond it (managed fields and the like) is passed over.
"""

from __future__ import annotations

from pydantic import Field

from .model import StatusModel
from .values import ObjectName, Time


class OwnerReference(StatusModel):
    """Whose end is also this object's end."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Metadata(StatusModel):
    """Name, namespace, labels and what the API server fills in."""

    name: ObjectName | None = None
    generate_name: str | None = None
    namespace: ObjectName | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[OwnerReference] = Field(default_factory=list)
    finalizers: list[str] = Field(default_factory=list)
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
