"""Reads secrets of AWS Secrets Manager and of Azure Key Vaults, with this machine's own login.

boto3 and Azure's libraries are extras of this package, and are imported when a secret is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from shoal.errors import ConfigurationError, SecretNotFound
from shoal.interpreters import AwsSecret, AzureSecret


@dataclass(frozen=True)
class CloudText:
    """One version of a secret; `version` names it for ever, and tells nothing of its text."""

    version: str
    text: str = field(repr=False)


def read(secret: AwsSecret | AzureSecret, default_vault: str = "") -> CloudText:
    """Read a secret's current version.

    Args:
        secret: which one.
        default_vault: name or URL of the vault of an AzureSecret that names none, where
            SHOAL_AZURE_VAULT is not set either.

    Raises:
        ConfigurationError: an extra of this package, a region or a vault's name is missing.
        SecretNotFound: there is none of that name, or this login may not read it.
    """
    if isinstance(secret, AwsSecret):
        return _from_aws(secret)
    return _from_azure(secret, default_vault)


def _from_aws(secret: AwsSecret) -> CloudText:
    boto3, exceptions = _imported("boto3", "aws"), _imported("botocore.exceptions", "aws")
    try:
        client = boto3.session.Session().client("secretsmanager")
        found = client.get_secret_value(SecretId=secret.secret_name)
    except exceptions.NoRegionError as error:
        raise ConfigurationError(
            f"{secret!r} can't be read: no AWS region is set. Set AWS_DEFAULT_REGION, or a region "
            "in ~/.aws/config"
        ) from error
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        raise SecretNotFound(f"{secret!r} can't be read with this machine's login: {error}") from (
            error
        )
    text = found.get("SecretString")
    if text is None:
        text = _text(secret, found["SecretBinary"])
    return CloudText(f"{found['ARN']} {found['VersionId']}", text)


def _from_azure(secret: AzureSecret, default_vault: str) -> CloudText:
    vault = secret.vault_name or os.environ.get("SHOAL_AZURE_VAULT") or default_vault
    if not vault:
        raise ConfigurationError(
            f"{secret!r} names no vault: pass vault_name=..., set SHOAL_AZURE_VAULT, or the "
            "chart's secrets.azureVault"
        )
    identity, vaults = _imported("azure.identity", "azure"), _imported(_VAULTS, "azure")
    exceptions = _imported("azure.core.exceptions", "azure")
    try:
        with (
            identity.DefaultAzureCredential() as login,
            vaults.SecretClient(vault_url(vault), login) as client,
        ):
            found = client.get_secret(secret.secret_name)
    except (exceptions.AzureError, ValueError) as error:
        raise SecretNotFound(
            f"{secret!r} can't be read from {vault_url(vault)} with this machine's login: {error}"
        ) from error
    if found.value is None:
        raise SecretNotFound(f"{secret!r} in {vault_url(vault)} has no value")
    return CloudText(found.id, found.value)


def vault_url(vault: str) -> str:
    """Return the URL of a vault by its name; what is a URL already is left as it is."""
    return vault.rstrip("/") if "://" in vault else f"https://{vault}.vault.azure.net"


_VAULTS = "azure.keyvault.secrets"


def _imported(name: str, extra: str) -> Any:
    from importlib import import_module

    try:
        module: ModuleType = import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Secrets of {_CLOUDS[extra]} need {name.partition('.')[0]}, which is not installed: "
            f"pip install 'shoal[{extra}]'"
        ) from error
    return module


_CLOUDS = {"aws": "AWS", "azure": "Azure"}


def _text(secret: AwsSecret, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{secret!r} is binary and no text in UTF-8") from error
