"""Secrets that the External Secrets Operator reads: what it is told, and how it is waited for."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

import shoal
from shoal import external_secrets
from shoal.credentials import Credentials
from shoal.errors import ConfigurationError, SecretNotFound
from shoal.external_secrets import EXTERNAL_SECRETS, pull_spec, until_synced
from shoal.kube import Client, WatchEvent

STORE = "ClusterSecretStore/aws"


def test_the_store_is_told_what_to_read_and_what_to_make_of_it() -> None:
    named = Credentials(secret_store=STORE)
    name = named.for_image(shoal.AwsSecret("login"), "registry.example.com/python")
    (made,) = named.made
    assert made.resource is EXTERNAL_SECRETS
    body = made.body()
    assert body["metadata"]["name"] == name
    assert body["spec"]["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "aws"}
    assert body["spec"]["dataFrom"] == [{"extract": {"key": "login"}}]
    assert body["spec"]["target"]["name"] == name


def test_the_template_makes_a_pull_secret_of_a_login() -> None:
    template = pull_spec(STORE, "login", "registry.example.com/python", "n")["target"]["template"]
    assert template["type"] == "kubernetes.io/dockerconfigjson"
    actions = {
        ".username | toJson": '"me"',
        ".password | toJson": '"p\\"w"',
        'printf "%s:%s" .username .password | b64enc | toJson': '"bWU6cCJ3"',
    }
    text = re.sub(
        r"\{\{ (.*?) \}\}", lambda m: actions[m[1]], template["data"][".dockerconfigjson"]
    )
    assert json.loads(text) == {
        "auths": {"registry.example.com": {"username": "me", "password": 'p"w', "auth": "bWU6cCJ3"}}
    }


def test_the_name_follows_from_store_secret_and_registry() -> None:
    def name(store: str = STORE, secret: str = "login", repository: str = "python") -> str:
        return Credentials(secret_store=store).for_image(shoal.AwsSecret(secret), repository)

    names = [name(), name("SecretStore/aws"), name(secret="other"), name(repository="a.b/python")]
    assert len(set(names)) == len(names)
    assert name() == name(repository="team/python")


def test_a_store_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be such as ClusterSecretStore/NAME"):
        Credentials(secret_store="aws").for_image(shoal.AwsSecret("login"), "python")


def test_a_vault_that_is_named_is_read_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(secret: Any, vault: str) -> Any:
        raise ConfigurationError(f"read {secret.vault_name}")

    monkeypatch.setattr("shoal.cloud_secrets.read", read)
    named = Credentials(secret_store=STORE)
    with pytest.raises(ConfigurationError, match="read team"):
        named.for_image(shoal.AzureSecret("login", "team"), "python")
    named.for_image(shoal.AzureSecret("login"), "python")
    assert len(named.made) == 1


class Api:
    """Tells these states of an ExternalSecret, and then nothing."""

    def __init__(self, *conditions: dict[str, str] | None) -> None:
        self._conditions = conditions

    async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[WatchEvent, None]:
        import asyncio

        for n, condition in enumerate(self._conditions):
            status = {"conditions": [condition]} if condition else {}
            found = {"metadata": {"name": "x"}, "status": status}
            yield WatchEvent("MODIFIED", found) if n else WatchEvent("LISTED", {"items": [found]})
        await asyncio.Event().wait()


def ready(status: str, message: str = "") -> dict[str, str]:
    return {"type": "Ready", "status": status, "message": message}


async def test_it_is_waited_for() -> None:
    api = Api(None, ready("Unknown"), ready("True"))
    await until_synced(cast(Client, api), "n", "x", "it")


async def test_what_the_operator_says_is_told() -> None:
    api = Api(None, ready("False", "no such secret"))
    words = r"it can't be read .*externalsecrets\.external-secrets\.io/x in .* n says no such"
    with pytest.raises(SecretNotFound, match=words):
        await until_synced(cast(Client, api), "n", "x", "it")


async def test_an_operator_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(external_secrets, "SYNC_SECONDS", 0.01)
    with pytest.raises(SecretNotFound, match=r"Is the External Secrets Operator running"):
        await until_synced(cast(Client, Api(None)), "n", "x", "it")
