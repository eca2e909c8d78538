"""Faults that tests and the soak do to a cluster, and undo.

The embedded cluster's own tool does what takes the machine's root (`python3 -m cluster`), the API
server does the rest. What a `with` block begins, its end undoes, whatever happens in between.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from namespaces import RELEASE_NAMESPACE, bucket

from shoal.errors import ApiError, StorageUnavailable
from shoal.kube import LEASES, NODES, PODS, Client, Resource

REPOSITORY = Path(__file__).resolve().parents[2]
WORKLOADS = Resource("apps", "v1", "deployments", "Deployment")
OPERATOR = "app.kubernetes.io/name=shoal,app.kubernetes.io/component=operator"
MINIO = "app.kubernetes.io/component=minio"
RELEASE = "shoal"
API_SERVER = "kube-apiserver"
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
"""They end without an API server, where they stand for election, and are started anew with it."""
WATCHERS = ("kube-proxy", "coredns", "kubelet-node-1", "kubelet-node-2")
"""After a long time without an API server they look for it only once a minute."""
CHILDREN = 2
"""Depth of a worker's child processes, below its agent and what forks them."""


class CommandFailed(Exception):
    """A program that a fault needs ended with an error."""


async def run(*words: str, **environment: str) -> str:
    """Run a program in the repository's root; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise CommandFailed(f"{' '.join(words)}: {out.decode()}{err.decode()}")
    return out.decode()


async def tool(*words: str) -> None:
    """Run a command of the cluster's tool."""
    await run(sys.executable, "-m", "cluster", *words)


class Chaos:
    """The faults of one cluster, with the release `shoal` in it."""

    def __init__(self, api: Client) -> None:
        self.api = api

    # the operator

    async def operators(self) -> list[dict[str, Any]]:
        """The operator's Pods that are not on their way out."""
        found = await self.api.list(PODS, RELEASE_NAMESPACE, label_selector=OPERATOR)
        return [p for p in found["items"] if not p["metadata"].get("deletionTimestamp")]

    async def delete_operator(self, *, grace_seconds: int = 0) -> None:
        """Delete the operator's Pod; its Deployment makes another."""
        for pod in await self.operators():
            name = pod["metadata"]["name"]
            await self.api.delete(PODS, name, RELEASE_NAMESPACE, grace_seconds=grace_seconds)

    async def kill_operator(self) -> None:
        """Kill the operator's container; the kubelet starts it again in the same Pod."""
        for pod in await self.operators():
            await tool("signal-pod", pod["metadata"]["uid"], "KILL", "--depth", "0")

    async def until_operator(self, *, pods: int = 1, seconds: float = 90) -> list[dict[str, Any]]:
        """Wait until so many of its Pods run and one is ready."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.operators()
                running = [p for p in found if p["status"].get("phase") == "Running"]
                if len(found) == len(running) == pods and any(map(is_ready, running)):
                    return running
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def no_operator(self) -> AsyncIterator[None]:
        """Nobody operates."""
        try:
            await self._scale(0)
            async with asyncio.timeout(60):
                while (await self.api.list(PODS, RELEASE_NAMESPACE, label_selector=OPERATOR))[
                    "items"
                ]:
                    await asyncio.sleep(0.1)
            yield
        finally:
            await self._scale(1)
            await self.until_operator()

    @asynccontextmanager
    async def second_operator(self) -> AsyncIterator[None]:
        """Two Pods of the operator, of which the Lease lets one work."""
        try:
            await self._scale(2)
            await self.until_operator(pods=2)
            yield
        finally:
            await self._scale(1)
            await self.until_operator()

    async def free_lease(self, *, seconds: float = 60) -> str:
        """Take the Lease from its holder, who does not know; return who took it then."""
        lease = await self.api.get(LEASES, RELEASE, RELEASE_NAMESPACE)
        before = lease["spec"]["holderIdentity"]
        empty = {"spec": {"holderIdentity": ""}}
        await self.api.patch(LEASES, RELEASE, empty, RELEASE_NAMESPACE)
        async with asyncio.timeout(seconds):
            while (holder := await self.lease_holder()) in ("", before):
                await asyncio.sleep(0.05)
        return holder

    async def lease_holder(self) -> str:
        """Who has the operator's Lease now."""
        lease = await self.api.get(LEASES, RELEASE, RELEASE_NAMESPACE)
        return str(lease["spec"].get("holderIdentity") or "")

    @asynccontextmanager
    async def hanging_operator(self) -> AsyncIterator[None]:
        """The operator's processes are stopped for a while."""
        uids = [pod["metadata"]["uid"] for pod in await self.operators()]
        try:
            for uid in uids:
                await tool("signal-pod", uid, "STOP")
            yield
        finally:
            for uid in uids:
                await tool("signal-pod", uid, "CONT")

    async def steal_lease(self) -> None:
        """Write a stranger's name into the Lease, as an operator by mistake might."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "a-stranger_0", "renewTime": now, "leaseDurationSeconds": 1}
        await self.api.patch(LEASES, RELEASE, {"spec": spec}, RELEASE_NAMESPACE)

    async def upgrade(self, mark: str, *, wait: bool = True) -> None:
        """Run `helm upgrade` with a change that replaces the operator, and wait for that."""
        note = f"operator.podAnnotations.shoal\\.dev/upgrade={mark}"
        await run(
            *("helm", "upgrade", RELEASE, "charts/shoal", "--namespace", RELEASE_NAMESPACE),
            *("--reset-then-reuse-values", "--set-string", note, "--timeout", "2m"),
            *(["--wait"] if wait else []),
        )

    async def roll_back(self) -> None:
        """Undo the last upgrade."""
        await run(
            *("helm", "rollback", RELEASE, "--namespace", RELEASE_NAMESPACE),
            *("--wait", "--timeout", "2m"),
        )

    async def _scale(self, replicas: int) -> None:
        await self.api.patch(
            WORKLOADS, RELEASE, {"spec": {"replicas": replicas}}, RELEASE_NAMESPACE
        )

    # the API server

    @asynccontextmanager
    async def no_api_server(self) -> AsyncIterator[None]:
        """The API server is killed: connections are refused."""
        try:
            for name in (*CONTROLLERS, API_SERVER):
                await tool("stop", name)
            yield
        finally:
            for name in (API_SERVER, *CONTROLLERS):
                await tool("start", name)
            for name in WATCHERS:
                await tool("stop", name)
                await tool("start", name)

    @asynccontextmanager
    async def hanging_api_server(self) -> AsyncIterator[None]:
        """The API server accepts connections and does not answer."""
        try:
            await tool("pause", API_SERVER)
            yield
        finally:
            await tool("resume", API_SERVER)

    async def cut_watches(self) -> None:
        """Reset every connection to the API server."""
        await tool("drop-connections", API_SERVER)

    # the bucket

    async def minio(self) -> dict[str, Any]:
        """MinIO's Pod."""
        found = await self.api.list(PODS, RELEASE_NAMESPACE, label_selector=MINIO)
        (pod,) = found["items"]
        return dict(pod)

    @asynccontextmanager
    async def bucket_away(self, *, refuse: bool) -> AsyncIterator[None]:
        """Connections to the bucket are refused, or else what is sent to it vanishes."""
        address = (await self.minio())["status"]["podIP"]
        where = (address, "--port", "9000")
        try:
            await tool("cut", *where, *(["--refuse"] if refuse else []))
            yield
        finally:
            await tool("mend", *where)

    @asynccontextmanager
    async def bucket_hangs(self) -> AsyncIterator[None]:
        """MinIO's processes are stopped: it takes connections and does not answer."""
        uid = (await self.minio())["metadata"]["uid"]
        try:
            await tool("signal-pod", uid, "STOP")
            yield
        finally:
            await tool("signal-pod", uid, "CONT")

    # nodes

    async def victim(self) -> str:
        """A node that may be lost: the bucket's data is on the other one."""
        return await self.other((await self.minio())["spec"]["nodeName"])

    async def other(self, node: str) -> str:
        """The node that is not `node`."""
        nodes = (await self.api.list(NODES))["items"]
        return next(n["metadata"]["name"] for n in nodes if n["metadata"]["name"] != node)

    async def keep_operator_off(self, node: str) -> None:
        """Have the operator run on another node."""
        (pod,) = await self.until_operator()
        if pod["spec"]["nodeName"] == node:
            async with self.cordoned(node):
                await self.delete_operator()
                await self.until_operator()

    @asynccontextmanager
    async def lost_node(self, node: str) -> AsyncIterator[None]:
        """The node has no power: kubelet and containers are killed, none is asked."""
        try:
            await tool("stop-node", node)
            yield
        finally:
            await tool("start-node", node)

    @asynccontextmanager
    async def cordoned(self, node: str) -> AsyncIterator[None]:
        """No new Pod gets to the node."""
        try:
            await self.api.patch(NODES, node, {"spec": {"unschedulable": True}})
            yield
        finally:
            await self.api.patch(NODES, node, {"spec": {"unschedulable": None}})

    @asynccontextmanager
    async def drained(self, node: str, *, grace_seconds: int = 5) -> AsyncIterator[None]:
        """`kubectl drain`, and at the end `kubectl uncordon`."""
        drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        try:
            await run("kubectl", *drain, f"--grace-period={grace_seconds}", "--timeout=60s")
            yield
        finally:
            await run("kubectl", "uncordon", node)

    # workers

    async def delete_pod(self, pod: dict[str, Any], *, grace_seconds: int = 0) -> None:
        """Delete a Pod."""
        meta = pod["metadata"]
        await self.api.delete(
            PODS, meta["name"], meta["namespace"], grace_seconds=grace_seconds, uid=meta["uid"]
        )

    async def kill_children(self, pod: dict[str, Any]) -> None:
        """Kill a worker's child processes, and not its agent."""
        uid = pod["metadata"]["uid"]
        await tool("signal-pod", uid, "KILL", "--depth", str(CHILDREN))

    async def kill_container(self, pod: dict[str, Any]) -> None:
        """Kill a worker's agent and children at once, as the kernel may."""
        await tool("signal-pod", pod["metadata"]["uid"], "KILL", "--depth", "0")

    @asynccontextmanager
    async def cut_off(self, pod: dict[str, Any]) -> AsyncIterator[None]:
        """Nothing gets to the Pod or from it; it goes on running."""
        address = pod["status"]["podIP"]
        try:
            await tool("cut", address)
            yield
        finally:
            await tool("mend", address)


def is_ready(thing: dict[str, Any]) -> bool:
    """Whether a Pod or a node is Ready."""
    conditions = thing["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until_well(api: Client, *, seconds: float = 90) -> None:
    """Wait until API server, operator and bucket answer and every node is Ready."""
    await until_answered(api, seconds=seconds)
    await Chaos(api).until_operator(seconds=seconds)
    async with asyncio.timeout(seconds):
        while not all(is_ready(node) for node in (await api.list(NODES))["items"]):
            await asyncio.sleep(0.1)
        store = await bucket(api)
        while True:
            try:
                await asyncio.to_thread(store.check)
                return
            except StorageUnavailable:
                await asyncio.sleep(0.1)


async def until_answered(api: Client, *, seconds: float = 60) -> None:
    """Wait until the API server answers."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await api.list(NODES)
                return
            except ApiError:
                await asyncio.sleep(0.1)
