"""Secrets of AWS (moto in its place) and of Azure (a vault on the loopback) are read."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure_vault import FakeCredential, Vault, serving
from moto import mock_aws

from shoal import AwsSecret, AzureSecret
from shoal.cloud_secrets import read, vault_url
from shoal.errors import ConfigurationError, SecretNotFound


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Secrets Manager, as moto plays it."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield boto3.client("secretsmanager")


def test_an_aws_secret_is_read(aws: Any) -> None:
    aws.create_secret(Name="team/login", SecretString="first")
    found = read(AwsSecret("team/login"))
    assert found.text == "first"
    assert read(AwsSecret("team/login")) == found
    aws.put_secret_value(SecretId="team/login", SecretString="second")
    newer = read(AwsSecret("team/login"))
    assert newer.text == "second"
    assert newer.version != found.version
    assert "first" not in repr(found)


def test_an_aws_secret_may_be_bytes(aws: Any) -> None:
    aws.create_secret(Name="bytes", SecretBinary=b"text")
    assert read(AwsSecret("bytes")).text == "text"
    aws.create_secret(Name="raw", SecretBinary=b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"AwsSecret.*raw.* no text in UTF-8"):
        read(AwsSecret("raw"))


def test_an_aws_secret_that_is_not_there_is_named(aws: Any) -> None:
    with pytest.raises(SecretNotFound, match=r"AwsSecret\(secret_name='gone'\) can't be read"):
        read(AwsSecret("gone"))


def test_aws_needs_a_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="Set AWS_DEFAULT_REGION"):
        read(AwsSecret("x"))


def test_aws_needs_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with pytest.raises(SecretNotFound, match="Unable to locate credentials"):
        read(AwsSecret("x"))


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> FakeCredential:
    """A login at Azure that is none."""
    made = FakeCredential()
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", lambda: made)
    monkeypatch.delenv("SHOAL_AZURE_VAULT", raising=False)
    return made


@pytest.fixture
def vault(
    tmp_path: Path, login: FakeCredential, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Vault]:
    """A vault on the loopback, whose host this process finds there."""
    with serving(tmp_path) as (made, certificate):
        found = socket.getaddrinfo

        def look_up(host: Any, *words: Any, **more: Any) -> Any:
            return found("127.0.0.1" if host == made.host else host, *words, **more)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        yield made


def test_an_azure_secret_is_read(vault: Vault, login: FakeCredential) -> None:
    vault.secrets["login"] = ("v1", "first")
    found = read(AzureSecret("login", vault.url))
    assert found.text == "first"
    assert login.scopes == [f"https://vault.localhost:{vault.port}/.default"]
    vault.secrets["login"] = ("v2", "second")
    newer = read(AzureSecret("login", vault.url + "/"))
    assert newer.text == "second"
    assert newer.version != found.version


def test_an_azure_secret_that_is_not_there_is_named(vault: Vault) -> None:
    with pytest.raises(
        SecretNotFound, match=rf"AzureSecret.*'gone'.* from {vault.url} .*not found"
    ):
        read(AzureSecret("gone", vault.url))


def test_the_vault_is_the_secrets_own_else_the_variables_else_the_charts(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.secrets["login"] = ("v1", "text")
    nowhere = "https://nowhere.invalid"
    assert read(AzureSecret("login"), vault.url).text == "text"
    monkeypatch.setenv("SHOAL_AZURE_VAULT", vault.url)
    assert read(AzureSecret("login"), nowhere).text == "text"
    monkeypatch.setenv("SHOAL_AZURE_VAULT", nowhere)
    assert read(AzureSecret("login", vault.url)).text == "text"


def test_a_vault_that_nobody_names_is_asked_for(login: FakeCredential) -> None:
    with pytest.raises(ConfigurationError, match=r"vault_name=.*SHOAL_AZURE_VAULT.*azureVault"):
        read(AzureSecret("login"))


def test_a_vault_has_a_name_or_a_url() -> None:
    assert vault_url("team") == "https://team.vault.azure.net"
    assert vault_url("https://team.vault.azure.cn/") == "https://team.vault.azure.cn"


@pytest.mark.parametrize(
    ("module", "secret", "remedy"),
    [
        ("boto3", AwsSecret("x"), r"pip install 'shoal\[aws\]'"),
        ("azure.identity", AzureSecret("x", "v"), r"pip install 'shoal\[azure\]'"),
        ("azure.keyvault.secrets", AzureSecret("x", "v"), r"pip install 'shoal\[azure\]'"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, secret: Any, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=remedy):
        read(secret)
