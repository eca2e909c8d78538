"""A private image where a store is named: the Secret is made in the cluster, by a fake operator.

The fake stands for the External Secrets Operator: its kind of object without its schema, and of its
work the making of one Secret, whose login it knows.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from namespaces import Place

import shoal
from shoal import discovery
from shoal.errors import ApiError, SecretNotFound
from shoal.external_secrets import EXTERNAL_SECRETS
from shoal.kube import CRDS, JOBS, SECRETS, Client

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "externalsecrets.external-secrets.io"},
    "spec": {
        "group": "external-secrets.io",
        "names": {
            "kind": "ExternalSecret",
            "listKind": "ExternalSecretList",
            "plural": "externalsecrets",
            "singular": "externalsecret",
        },
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
LOGIN = {"auths": {"registry.invalid": {"auth": base64.b64encode(b"me:pw").decode()}}}


@pytest.fixture
async def kind(api: Client) -> AsyncIterator[None]:
    """The cluster knows ExternalSecrets."""
    await api.create(CRDS, DEFINITION)
    name = "externalsecrets.external-secrets.io"
    async with asyncio.timeout(30):
        while True:
            with suppress(ApiError):
                await api.list(EXTERNAL_SECRETS, "default")
                break
            await asyncio.sleep(0.05)
    yield
    await api.delete(CRDS, name)
    async with asyncio.timeout(30):
        with suppress(ApiError):
            while await api.get(CRDS, name):
                await asyncio.sleep(0.05)


@pytest.fixture
async def fake_operator(kind: None, user: Place) -> AsyncIterator[None]:
    """Makes the Secret of the secret `login`, and knows no other."""
    working = asyncio.create_task(fake_external_secrets_operator(user))
    yield
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def fake_external_secrets_operator(place: Place) -> None:
    async for event in place.api.watch(EXTERNAL_SECRETS, place.namespace):
        found = event.object["items"] if event.type == "LISTED" else [event.object]
        for external in found:
            if event.type != "DELETED" and not external.get("status"):
                await sync(place, external)


async def sync(place: Place, external: dict[str, Any]) -> None:
    meta, target = external["metadata"], external["spec"]["target"]
    condition = {"type": "Ready", "status": "False", "message": "could not get secret data"}
    if external["spec"]["dataFrom"] == [{"extract": {"key": "login"}}]:
        owner = {
            "apiVersion": external["apiVersion"],
            "kind": external["kind"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        body = {
            "metadata": {"name": target["name"], "ownerReferences": [owner]},
            "type": target["template"]["type"],
            "stringData": {".dockerconfigjson": json.dumps(LOGIN)},
        }
        await place.api.create(SECRETS, body, place.namespace)
        condition = {"type": "Ready", "status": "True", "message": "Secret was synced"}
    body = {"status": {"conditions": [condition]}}
    await place.api.patch(
        EXTERNAL_SECRETS, meta["name"], body, place.namespace, subresource="status"
    )


@pytest.fixture
async def host(user: Place) -> shoal.Kubernetes:
    """The namespace, as if the chart named a store."""
    made = user.host()
    (await discovery.find(user.api, made)).secret_store = "ClusterSecretStore/fake"
    return made


def image(secret: str) -> shoal.Deployment:
    return shoal.Deployment.container_image(
        "docker.io/library/python", "3.11-slim", shoal.AwsSecret(secret)
    )


async def names(place: Place, resource: Any = EXTERNAL_SECRETS) -> list[str]:
    found = (await place.api.list(resource, place.namespace))["items"]
    return [one["metadata"]["name"] for one in found]


async def test_the_operator_makes_the_secret_and_it_goes_with_the_jobs(
    fake_operator: None, user: Place, host: shoal.Kubernetes
) -> None:
    for name in ("one", "two"):
        call = shoal.run_function(
            "math.gcd", host, deployment=image("login"), args=[12, 18], name=name
        )
        assert await call == 6
    (pod,) = await user.pods()
    (made,) = await names(user)
    assert pod["spec"]["imagePullSecrets"] == [{"name": made}]
    external = await user.api.get(EXTERNAL_SECRETS, made, user.namespace)
    assert [o["name"] for o in external["metadata"]["ownerReferences"]] == ["one", "two"]
    for name in ("one", "two"):
        await user.api.delete(JOBS, name, user.namespace)
    async with asyncio.timeout(60):
        while await names(user) or made in await names(user, SECRETS):
            await asyncio.sleep(0.2)


async def test_what_the_store_lacks_is_told_and_nothing_is_left(
    fake_operator: None, user: Place, host: shoal.Kubernetes
) -> None:
    with pytest.raises(SecretNotFound, match="could not get secret data"):
        await shoal.run_function("math.gcd", host, deployment=image("other"), args=[12, 18])
    assert not await names(user)
    assert not await names(user, JOBS)


async def test_without_that_operator_the_remedy_is_named(
    user: Place, host: shoal.Kubernetes
) -> None:
    with pytest.raises(ApiError, match="install the External Secrets Operator"):
        await shoal.run_function("math.gcd", host, deployment=image("login"), args=[12, 18])
    assert not await names(user, JOBS)
