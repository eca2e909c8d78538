"""A release of the chart whose operator is a process of this machine, beside other releases.

Helm makes everything as for any release, but the operator's Pod finds no node. Its Service gets an
endpoint of this machine, and its process the very environment of the Pod, with a token of its
service account: what it may not do in the cluster it may not do here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any, Self

from shoal import crdgen
from shoal.errors import ApiError
from shoal.kube import (
    CONFIGMAPS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICES,
    Client,
    Resource,
)
from shoal.storage import S3Storage

CHART = Path(crdgen.__file__).parents[2] / "charts" / "shoal"
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
APPS = Resource("apps", "v1", "deployments", "Deployment")
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
NAME = "faults"
FULL_NAME = "faults-shoal"
PORT = 28443
HEALTH_PORT = 28080
BUCKET = "faults"
OWN_BUCKET = "faults-own"
KEY = "faults-bucket"
"""The Secret with the key of the release's bucket; users may read it."""
OWN_KEY = "faults-own"
"""The Secret that jobs name with a bucket of their own."""
OTHERS_NAMES = ("SHOAL_NAMESPACE", "SHOAL_BUCKET", "SHOAL_BUCKET_SECRET")
"""Variables by which clients find another release's bucket."""
OTHERS_SECONDS = 60.0
"""Another release sees within so long that a namespace is ours."""
PROBE_SECONDS = 1.5
"""A release that serves a namespace takes a job within so long."""


class Release:
    """The release; its operator does not run until somebody runs it with `environment`."""

    def __init__(self, api: Client, folder: Path) -> None:
        mark = secrets.token_hex(3)
        self.api, self._folder = api, folder
        self.home, self.served = f"{NAME}-{mark}", f"{NAME}-{mark}-work"
        self.endpoint = os.environ["SHOAL_ENDPOINT_URL"]
        self.environment: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await run("helm", "uninstall", NAME, "-n", self.home, "--no-hooks", "--ignore-not-found")
        for namespace in (self.served, self.home):
            await self.api.delete(NAMESPACES, namespace)
        for bucket in (BUCKET, OWN_BUCKET):
            await asyncio.to_thread(self._empty, bucket)

    def storage(self, bucket: str = BUCKET) -> S3Storage:
        """A bucket, as clients see it."""
        return S3Storage(
            bucket,
            self.endpoint,
            access_key=self._keys["username"],
            secret_key=self._keys["password"],
        )

    @property
    def instance(self) -> str:
        """The value of the label shoal.dev/instance."""
        return f"{self.home}.{NAME}"

    @property
    def cluster_id(self) -> str:
        """First part of every key."""
        return self.environment["SHOAL_OP_CLUSTER_ID"]

    async def save_logs(self) -> None:
        """Keep what workers said and how jobs stood, to look at after a trouble."""
        pods = await self.api.list(PODS, self.served)
        for pod in pods["items"]:
            name = pod["metadata"]["name"]
            words = ("kubectl", "logs", "-n", self.served, name, "--ignore-errors")
            (self._folder / f"{name}.log").write_text(await run(*words, check=False))
        kinds = "jobs.shoal.dev,mapjobs.shoal.dev,deployments.shoal.dev,pods"
        objects = await run("kubectl", "get", "-n", self.served, kinds, "-ojson")
        (self._folder / "objects.json").write_text(objects)

    async def _set_up(self) -> None:
        found = await self.api.get(SECRETS, "shoal-minio", "shoal-system")
        self._keys = {k: base64.b64decode(v).decode() for k, v in found["data"].items()}
        await self.api.create(NAMESPACES, _object("Namespace", self.home))
        await self._claim()
        for namespace, name in (
            (self.home, KEY),
            (self.served, KEY),
            (self.served, OWN_KEY),
        ):
            body = _object("Secret", name) | {"stringData": self._keys}
            await self.api.create(SECRETS, body, namespace)
        await asyncio.to_thread(self._make_bucket, OWN_BUCKET)
        await self._install()
        await self._point_service_here()
        await self._log_in()

    async def _claim(self) -> None:
        """Make the served namespace, and claim it; no other release must take jobs there."""
        body = _object("ConfigMap", "shoal")
        body["metadata"]["labels"] = {
            "shoal.dev/instance": self.instance,
            "shoal.dev/claim": "named",
        }
        await self.api.create(NAMESPACES, _object("Namespace", self.served))
        try:
            await self.api.create(CONFIGMAPS, body, self.served)
        except ApiError as error:
            if error.status != 409:
                raise
            await self.api.patch(CONFIGMAPS, "shoal", body, self.served)
        async with asyncio.timeout(OTHERS_SECONDS):
            while await self._is_served():
                await asyncio.sleep(1.0)
            while not await self._has_account():
                await asyncio.sleep(0.1)

    async def _is_served(self) -> bool:
        """Whether another release still takes jobs here: it looks again every ten seconds."""
        probe = {"function": {"name": "math.gcd", "args": [1, 1]}, "cancel": True}
        body = _object("Job", "probe", "shoal.dev/v1alpha1") | {"spec": probe}
        await self.api.create(JOBS, body, self.served)
        await asyncio.sleep(PROBE_SECONDS)
        found = await self.api.get(JOBS, "probe", self.served)
        await self.api.delete(JOBS, "probe", self.served)
        return bool(found.get("status"))

    async def _has_account(self) -> bool:
        """Whether Pods can be made in the namespace already."""
        found = await self.api.list(ACCOUNTS, self.served)
        return any(item["metadata"]["name"] == "default" for item in found["items"])

    async def _install(self) -> None:
        values: dict[str, Any] = {
            "crds": {"enabled": False},
            "watchNamespaces": [self.served],
            "rbac": {"aggregateClusterRoles": False},
            "cleanup": {"enabled": False},
            "storage": {
                "bucket": BUCKET,
                "endpoint": self.endpoint,
                "endpointInCluster": self.endpoint,
                "secretName": KEY,
                "userSecretName": KEY,
                "secretNames": [OWN_KEY],
                "createBucket": True,
            },
            "workers": {
                "memory": "96Mi",
                "cpu": "20m",
                "defaultImage": "docker.io/library/python:3.11-slim",
            },
            "operator": {
                "port": PORT,
                "healthPort": HEALTH_PORT,
                "nodeSelector": {"shoal.dev/on": "no-node"},
                "extraEnv": [
                    {"name": "SHOAL_OP_SWEEP_SECONDS", "value": "3"},
                    {"name": "SHOAL_OP_BUCKET_SWEEP_SECONDS", "value": "3"},
                    {"name": "SHOAL_OP_GRACE_SECONDS", "value": "10"},
                    {"name": "SHOAL_OP_ORPHAN_SECONDS", "value": "10"},
                ],
            },
        }
        path = self._folder / "values.json"
        path.write_text(json.dumps(values))
        await run("helm", "install", NAME, str(CHART), "-n", self.home, "-f", str(path))
        made = await self.api.get(APPS, FULL_NAME, self.home)
        containers = made["spec"]["template"]["spec"]["containers"]
        self.environment = {e["name"]: e.get("value", "") for e in containers[0]["env"]}
        await self.api.patch(APPS, FULL_NAME, {"spec": {"replicas": 0}}, self.home)

    async def _point_service_here(self) -> None:
        await self.api.patch(SERVICES, FULL_NAME, {"spec": {"selector": None}}, self.home)
        nodes = await self.api.list(NODES)
        addresses = [
            address["address"]
            for node in nodes["items"]
            for address in node["status"]["addresses"]
            if address["type"] == "InternalIP"
        ]
        body = _object("EndpointSlice", f"{FULL_NAME}-here", "discovery.k8s.io/v1")
        body["metadata"]["labels"] = {"kubernetes.io/service-name": FULL_NAME}
        body["addressType"] = "IPv4"
        body["endpoints"] = [{"addresses": [_address_towards(addresses[0])]}]
        body["ports"] = [{"name": "dispatcher", "port": PORT}]
        await self.api.create(SLICES, body, self.home)

    async def _log_in(self) -> None:
        """Let the process be the release's service account."""
        config = json.loads(await run("kubectl", "config", "view", "--raw", "--minify", "-ojson"))
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 12 * 3600},
        }
        made = await self.api.create(ACCOUNTS, body, self.home, subresource=(FULL_NAME, "token"))
        config["users"] = [{"name": "operator", "user": {"token": made["status"]["token"]}}]
        config["contexts"][0]["context"]["user"] = "operator"
        path = self._folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        self.environment |= {"KUBECONFIG": str(path), "POD_NAME": "faults-operator"}

    def _make_bucket(self, name: str) -> None:
        client: Any = self.storage(name)._client
        if not client.bucket_exists(name):
            client.make_bucket(name)

    def _empty(self, bucket: str) -> None:
        if not self._keys:
            return
        storage = self.storage(bucket)
        client: Any = storage._client
        if client.bucket_exists(bucket):
            prefix = f"{self.environment.get('SHOAL_OP_CLUSTER_ID', 'none')}/"
            storage.delete(*[info.key for info in storage.list(prefix)])


async def run(*words: str, check: bool = True) -> str:
    """Run a program and return what it says; with `check` raise if it fails."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await process.communicate()
    if check and process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {complaint.decode()}")
    return out.decode()


def _object(kind: str, name: str, version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _address_towards(node: str) -> str:
    """This machine's address on the way to a node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((node, 9))
        return str(way.getsockname()[0])
