"""The Kubernetes Secrets that a submission names, and those that it makes of a cloud's secrets.

A made Secret is named by the version that it was made of and what it is for, so that the same one
gives the same Deployment and finds its warm workers; the name tells nothing of the content. Every
job that names it owns it: it goes with the last of them (docs/decisions/0013).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from shoal import cloud_secrets
from shoal.errors import ApiError, ConfigurationError, ShoalException
from shoal.interpreters import AwsSecret, AzureSecret, KubernetesSecret, Secret
from shoal.kube import SECRETS, Client
from shoal.secret_payloads import SecretData, git_data, pull_data, registry_of

TRIES = 3
SOURCE = "shoal.dev/source"


@dataclass(frozen=True)
class MadeSecret:
    """A Secret that a submission makes, unless it is there already; `of` is what it is made of."""

    name: str
    of: str
    content: SecretData = field(repr=False)

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
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": metadata,
            "type": self.content.type,
            "immutable": True,
            "data": self.content.encoded(),
        }


class Credentials:
    """Names the Secrets of one submission; `made` are those that it has to make.

    Its methods read a cloud's secret where one is given, and so belong into a thread.
    """

    def __init__(self, azure_vault: str = "") -> None:
        """`azure_vault` is the vault of secrets that name none."""
        self._azure_vault = azure_vault
        self._made: dict[str, MadeSecret] = {}

    @property
    def made(self) -> tuple[MadeSecret, ...]:
        """The Secrets that are to be made."""
        return tuple(self._made.values())

    def for_image(self, secret: Secret, repository: str) -> str:
        """Return the name of the Secret that opens the registry of `repository`."""
        if isinstance(secret, KubernetesSecret):
            return secret.secret_name
        found = self._read(secret)
        content = pull_data(found.text, repository, repr(secret))
        return self._make(secret, found.version, content, registry_of(repository))

    def for_git(self, secret: Secret, *, ssh: bool) -> str:
        """Return the name of the Secret that opens a git repository, over SSH or HTTPS.

        Its keys are `ssh-privatekey` and perhaps `known_hosts`, or `username`, `password` and
        perhaps `ca.crt`.
        """
        if isinstance(secret, KubernetesSecret):
            return secret.secret_name
        found = self._read(secret)
        content = git_data(found.text, repr(secret), ssh=ssh)
        return self._make(secret, found.version, content, "")

    def _read(self, secret: Secret) -> cloud_secrets.CloudText:
        if not isinstance(secret, AwsSecret | AzureSecret):
            raise ConfigurationError(
                f"{secret!r} can't be used here: pass shoal.KubernetesSecret(...), "
                "shoal.AwsSecret(...) or shoal.AzureSecret(...)"
            )
        return cloud_secrets.read(secret, self._azure_vault)

    def _make(self, secret: Secret, version: str, content: SecretData, host: str) -> str:
        parts = json.dumps([type(secret).__name__, version, content.type, host])
        name = f"shoal-secret-{hashlib.sha256(parts.encode()).hexdigest()[:20]}"
        self._made[name] = MadeSecret(name, repr(secret), content)
        return name


Created = tuple[MadeSecret, Mapping[str, Any]]


async def create(api: Client, namespace: str, secrets: Collection[MadeSecret]) -> list[Created]:
    """Create the Secrets that are not there; return those with their metadata."""
    created: list[Created] = []
    try:
        for secret in secrets:
            try:
                made = await api.create(SECRETS, secret.body(), namespace)
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
    """Make a job an owner of its Secrets; those that went with another job are made again."""
    for secret in secrets:
        await _own(api, namespace, secret, job)


async def _own(api: Client, namespace: str, secret: MadeSecret, job: Mapping[str, Any]) -> None:
    patch = {"metadata": {"ownerReferences": [_reference(job)]}}
    for left in reversed(range(TRIES)):
        try:
            await api.patch(SECRETS, secret.name, patch, namespace, style="strategic")
            return
        except ApiError as error:
            if error.status != 404:
                raise _explained(error, secret, namespace) from error
        try:
            await api.create(SECRETS, secret.body(job), namespace)
            return
        except ApiError as error:
            if error.status != 409 or not left:
                raise _explained(error, secret, namespace) from error


async def remove(api: Client, namespace: str, created: Collection[Created]) -> None:
    """Delete what `create` made, unless somebody else owns it by now; the first error counts."""
    for secret, metadata in created:
        with suppress(ShoalException):
            await api.delete(
                SECRETS,
                secret.name,
                namespace,
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )


def _reference(job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }


def _explained(error: ApiError, secret: MadeSecret, namespace: str) -> ApiError:
    if error.status != 403:
        return error
    return ApiError(
        403,
        error.reason,
        f"You may not create and patch secrets in namespace {namespace}, as {secret.of} needs: ask "
        "for a Role as in examples/rbac/cloud-secrets.yaml, or have a Secret made and pass "
        f"shoal.KubernetesSecret(its name). {error.message}",
        error.details,
    )
