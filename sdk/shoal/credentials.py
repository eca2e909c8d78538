"""The Secrets that a submission names, whether they are there or are to be made of a cloud's.

A made one is named by the version that it was made of and what it is for, so that the same one
gives the same Deployment and finds its warm workers; the name tells nothing of the content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from shoal import cloud_secrets
from shoal.errors import ConfigurationError
from shoal.external_secrets import EXTERNAL_SECRETS, pull_spec
from shoal.interpreters import AwsSecret, AzureSecret, KubernetesSecret, Secret
from shoal.kube import SECRETS, Resource
from shoal.made_secrets import MadeSecret
from shoal.secret_payloads import SecretData, git_data, pull_data, registry_of


class Credentials:
    """Names the Secrets of one submission; `made` are those that it has to make.

    Its methods may read a cloud's secret, and so belong into a thread.
    """

    def __init__(self, azure_vault: str = "", secret_store: str = "") -> None:
        """`azure_vault` is the vault of secrets that name none, `secret_store` what the chart says.

        A store, such as ClusterSecretStore/aws, has the secrets of images read in the cluster.
        """
        self._azure_vault, self._store = azure_vault, secret_store
        self._made: dict[str, MadeSecret] = {}

    @property
    def made(self) -> tuple[MadeSecret, ...]:
        """The objects that are to be made."""
        return tuple(self._made.values())

    def for_image(self, secret: Secret, repository: str) -> str:
        """Return the name of the Secret that opens the registry of `repository`."""
        if isinstance(secret, KubernetesSecret):
            return secret.secret_name
        of = _of_a_cloud(secret)
        if self._store and not getattr(of, "vault_name", None):  # a store is one vault
            name = _name(of, self._store, of.secret_name, registry_of(repository))
            spec = pull_spec(self._store, of.secret_name, repository, name)
            return self._make(EXTERNAL_SECRETS, name, of, {"spec": spec})
        found = cloud_secrets.read(of, self._azure_vault)
        content = pull_data(found.text, repository, repr(of))
        return self._make_secret(of, found.version, content, registry_of(repository))

    def for_git(self, secret: Secret, *, ssh: bool) -> str:
        """Return the name of the Secret that opens a git repository, over SSH or HTTPS.

        Its keys are `ssh-privatekey` and perhaps `known_hosts`, or `username`, `password` and
        perhaps `ca.crt`.
        """
        if isinstance(secret, KubernetesSecret):
            return secret.secret_name
        of = _of_a_cloud(secret)
        found = cloud_secrets.read(of, self._azure_vault)
        return self._make_secret(of, found.version, git_data(found.text, repr(of), ssh=ssh), "")

    def _make_secret(
        self, of: AwsSecret | AzureSecret, version: str, content: SecretData, host: str
    ) -> str:
        name = _name(of, version, content.type, host)
        fields = {"type": content.type, "immutable": True, "data": content.encoded()}
        return self._make(SECRETS, name, of, fields)

    def _make(self, resource: Resource, name: str, of: Secret, fields: Mapping[str, Any]) -> str:
        self._made[name] = MadeSecret(resource, name, repr(of), fields)
        return name


def _of_a_cloud(secret: Secret) -> AwsSecret | AzureSecret:
    if isinstance(secret, AwsSecret | AzureSecret):
        return secret
    raise ConfigurationError(
        f"{secret!r} can't be used here: pass shoal.KubernetesSecret(...), shoal.AwsSecret(...) or "
        "shoal.AzureSecret(...)"
    )


def _name(of: Secret, *parts: str) -> str:
    text = json.dumps([type(of).__name__, *parts])
    return f"shoal-secret-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
