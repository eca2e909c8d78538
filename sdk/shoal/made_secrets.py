"""The Secrets that a submission makes: before its job, owned by it, taken back where it fails.

Every job that names one owns it, so that Kubernetes deletes it with the last of them
(docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from shoal.errors import ApiError, ShoalException
from shoal.kube import Client, Resource

TRIES = 3
SOURCE = "shoal.dev/source"
OWNERS = "/metadata/ownerReferences"


@dataclass(frozen=True)
class MadeSecret:
    """A Secret, or an ExternalSecret that becomes one, which is made unless it is there.

    Attributes:
        resource: which of the two.
        name: of the object, and of the Secret.
        of: what it is made of, for people.
        fields: what the object has beside its metadata.
    """

    resource: Resource
    name: str
    of: str
    fields: Mapping[str, Any] = field(repr=False)

    def body(self, owner: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the object; `owner` is a job as the API server has it."""
        metadata: dict[str, Any] = {
            "name": self.name,
            "labels": {"app.kubernetes.io/managed-by": "shoal"},
            "annotations": {SOURCE: self.of},
        }
        if owner is not None:
            metadata["ownerReferences"] = [_reference(owner)]
        return {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": metadata,
            **self.fields,
        }


Patch = list[dict[str, Any]]
Created = tuple[MadeSecret, Mapping[str, Any]]


async def create(api: Client, namespace: str, secrets: Collection[MadeSecret]) -> list[Created]:
    """Create those that are not there; return them with their metadata."""
    created: list[Created] = []
    try:
        for secret in secrets:
            try:
                made = await api.create(secret.resource, secret.body(), namespace)
            except ApiError as error:
                if error.status == 409 and error.reason == "AlreadyExists":
                    continue
                raise _explained(error, secret, namespace) from error
            created.append((secret, made["metadata"]))
    except BaseException:
        await remove(api, namespace, created)
        raise
    return created


async def own(
    api: Client, namespace: str, secrets: Collection[MadeSecret], job: Mapping[str, Any]
) -> None:
    """Make a job an owner; what went with another job meanwhile is made again."""
    for secret in secrets:
        await _own(api, namespace, secret, job)


async def _own(api: Client, namespace: str, secret: MadeSecret, job: Mapping[str, Any]) -> None:
    owner = _reference(job)
    join: Patch = [{"op": "add", "path": f"{OWNERS}/-", "value": owner}]
    begin: Patch = [
        {"op": "test", "path": OWNERS, "value": None},
        {"op": "add", "path": OWNERS, "value": [owner]},
    ]
    last: ApiError | None = None
    for patch in (join, begin) * TRIES:
        try:
            await api.patch(secret.resource, secret.name, patch, namespace, style="json")
            return
        except ApiError as error:
            if error.status not in (404, 422):
                raise _explained(error, secret, namespace) from error
            last = error
        if last.status == 404:
            try:
                await api.create(secret.resource, secret.body(job), namespace)
                return
            except ApiError as error:
                if error.status != 409:
                    raise _explained(error, secret, namespace) from error
    if last is not None:
        raise last


async def remove(api: Client, namespace: str, created: Collection[Created]) -> None:
    """Delete what `create` made, unless a job owns it by now; the first error counts."""
    for secret, metadata in created:
        with suppress(ShoalException):
            await _remove(api, namespace, secret, metadata["uid"])


async def _remove(api: Client, namespace: str, secret: MadeSecret, uid: str) -> None:
    unowned: Patch = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": OWNERS, "value": None},
    ]
    for left in reversed(range(TRIES)):
        found = await api.patch(secret.resource, secret.name, unowned, namespace, style="json")
        version = found["metadata"]["resourceVersion"]
        try:
            await api.delete(
                secret.resource, secret.name, namespace, uid=uid, resource_version=version
            )
            return
        except ApiError as error:  # a controller may have written its status meanwhile
            if error.status != 409 or not left:
                raise


def _reference(job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }


def _explained(error: ApiError, secret: MadeSecret, namespace: str) -> ApiError:
    kind = secret.resource.full_name("").rstrip("/")
    if error.status == 404 and secret.resource.group:
        why = (
            f"The cluster does not know {kind}, which {secret.of} is to become as the chart's "
            "secrets.secretStore says: install the External Secrets Operator, or have the store's "
            "name taken out"
        )
    elif error.status == 403:
        why = (
            f"You may not create and patch {kind} in namespace {namespace}, as {secret.of} needs: "
            "ask for a Role as in examples/rbac/cloud-secrets.yaml, or have a Secret made and pass "
            f"shoal.KubernetesSecret(its name). {error.message}"
        )
    else:
        return error
    return ApiError(error.status, error.reason, why, error.details)
