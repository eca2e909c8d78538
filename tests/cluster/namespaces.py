"""One namespace of a cluster, as the tests use it: manifests in, ends out."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

import shoal
from shoal.errors import ApiError
from shoal.kube import (
    CONFIGMAPS,
    DEPLOYMENTS,
    JOBS,
    MAPJOBS,
    NAMESPACES,
    PODS,
    SECRETS,
    Client,
    Resource,
)
from shoal.storage import S3Storage

KINDS = {"Job": JOBS, "MapJob": MAPJOBS, "Deployment": DEPLOYMENTS}
RELEASE_NAMESPACE = "shoal-system"


class Place:
    """One namespace of the cluster."""

    def __init__(self, api: Client, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def host(self, **more: Any) -> shoal.Kubernetes:
        """This namespace as a host of the SDK; it needs the fixture `bucket_key`."""
        return shoal.Kubernetes(kubernetes_namespace=self.namespace, **more)

    async def apply(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Create an object."""
        body = {
            "apiVersion": "shoal.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return await self.api.create(KINDS[kind], body, self.namespace)

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        return await self.api.get(KINDS[kind], name, self.namespace)

    async def change(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return await self.api.patch(KINDS[kind], name, {"spec": spec}, self.namespace)

    async def until(
        self,
        kind: str,
        name: str,
        holds: Callable[[dict[str, Any]], Any],
        *,
        seconds: float = 60,
    ) -> dict[str, Any]:
        """Watch an object until `holds(status)`; return the status."""
        status: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                watch = self.api.watch(KINDS[kind], self.namespace, name=name)
                async with aclosing(watch) as events:
                    async for event in events:
                        listed = event.type == "LISTED"
                        for found in event.object["items"] if listed else [event.object]:
                            status = found.get("status") or {}
                            if event.type != "DELETED" and holds(status):
                                return status
        except TimeoutError:
            pytest.fail(f"{kind} {name} did not get there in {seconds} s; its status: {status}")
        raise AssertionError("a watch does not end")

    async def end(self, kind: str, name: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until a job has finished; return its status."""
        return await self.until(kind, name, finished, seconds=seconds)

    async def run(
        self, kind: str, name: str, spec: dict[str, Any], *, seconds: float = 60
    ) -> dict[str, Any]:
        """Create a job and wait for its end."""
        await self.apply(kind, name, spec)
        return await self.end(kind, name, seconds=seconds)

    async def pods(self, selector: str = "app.kubernetes.io/managed-by=shoal") -> list[Any]:
        found = await self.api.list(PODS, self.namespace, label_selector=selector)
        return list(found["items"])

    async def until_pods(
        self, holds: Callable[[list[Any]], Any], *, seconds: float = 60
    ) -> list[Any]:
        """Look at the worker Pods until they are as they should be."""
        pods: list[Any] = []
        try:
            async with asyncio.timeout(seconds):
                while not holds(pods := await self.pods()):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            states = [(p["metadata"]["name"], p["status"].get("phase")) for p in pods]
            pytest.fail(f"the Pods did not get there in {seconds} s: {states}")
        return pods


def finished(status: dict[str, Any]) -> bool:
    return condition(status, "Finished").get("status") == "True"


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    """The condition of that type, or an empty one."""
    return next((c for c in status.get("conditions", ()) if c["type"] == type_), {})


async def make_place(api: Client, kind: str = "test", *, patience: float = 30) -> Place:
    """Make a namespace of its own, served by the operator."""
    name = f"{kind}-{secrets.token_hex(4)}"
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    await api.create(NAMESPACES, body)
    made = Place(api, name)
    try:
        await served(made, patience)
    except BaseException:
        await api.delete(NAMESPACES, name)
        raise
    return made


async def give_key(place: Place) -> None:
    """Give a namespace the Secret with the default bucket's key."""
    found = await place.api.get(SECRETS, "shoal-minio", RELEASE_NAMESPACE)
    await place.api.create(
        SECRETS,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "shoal-minio"},
            "data": {k: found["data"][k] for k in ("username", "password")},
        },
        place.namespace,
    )


async def served(place: Place, seconds: float = 30) -> None:
    """Wait for what every Pod needs (its service account) and every client (the ConfigMap)."""
    account = Resource("", "v1", "serviceaccounts", "ServiceAccount")
    wanted = [(account, "default"), (CONFIGMAPS, "shoal")]
    async with asyncio.timeout(seconds):
        while wanted:
            try:
                await place.api.get(*wanted[0], place.namespace)
                wanted.pop(0)
            except ApiError as error:
                assert error.status == 404, error
                await asyncio.sleep(0.05)


def secret_value(secret: dict[str, Any], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()


async def bucket(api: Client) -> S3Storage:
    """The default bucket, seen from outside, with the operator's own key."""
    key = await api.get(SECRETS, "shoal-minio", RELEASE_NAMESPACE)
    told = (await api.get(CONFIGMAPS, "shoal", "default"))["data"]
    return S3Storage(
        told["bucket"],
        os.environ.get("SHOAL_ENDPOINT_URL") or told["endpoint"],
        access_key=secret_value(key, "username"),
        secret_key=secret_value(key, "password"),
    )
