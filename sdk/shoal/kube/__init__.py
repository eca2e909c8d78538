"""The Kubernetes API as thin asynchronous verbs over plain dictionaries.

Used by the SDK and by the operator. The `kubernetes` library reads the configuration (kubeconfig
with contexts and exec plugins, or the service account of a Pod: `config`); the verbs are our own
over one aiohttp session (`client`), since the library's generated classes cost more to make than
the request itself; `watching` keeps a watch alive across cuts, bookmarks and expired versions;
`kinds` names the resources. All errors are `shoal.errors.ApiError`.

Usage::

    async with await connect() as api:
        pod = await api.get(PODS, "x", "default")
        async for event in api.watch(JOBS, "default", name="x"):
            ...

`shared()` is the same connection kept for the life of the running event loop.
"""

from __future__ import annotations

from shoal.errors import ApiError, ApiUnreachable
from shoal.kube.client import Client, connect
from shoal.kube.config import Login, load
from shoal.kube.kinds import (
    CONFIGMAPS,
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LEASES,
    MAPJOBS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICES,
    Resource,
)
from shoal.kube.shared import shared
from shoal.kube.watching import WatchEvent

__all__ = [
    "CONFIGMAPS",
    "CRDS",
    "DEPLOYMENTS",
    "EVENTS",
    "JOBS",
    "LEASES",
    "MAPJOBS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "SECRETS",
    "SERVICES",
    "ApiError",
    "ApiUnreachable",
    "Client",
    "Login",
    "Resource",
    "WatchEvent",
    "connect",
    "load",
    "shared",
]
