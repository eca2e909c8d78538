"""The ConfigMap `shoal` in each watched namespace: what a client must know, and may read.

`shoal.Kubernetes()` without arguments works from it. It is also how two releases on one cluster
keep out of each other's way.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from shoal.errors import ApiError
from shoal.kube import CONFIGMAPS, NAMESPACES, Client

from . import names
from .settings import Settings

logger = logging.getLogger(__name__)

LOOK_EVERY = 10.0
"""Seconds after which a namespace with new jobs is looked at again."""


def config_map(settings: Settings) -> dict[str, Any]:
    """The ConfigMap, the same in each namespace."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.CONFIG_MAP,
            "labels": {
                **names.ours(settings.instance),
                names.CLAIM: "named" if settings.watch_namespaces else "all",
            },
        },
        "data": {
            "clusterId": settings.cluster_id,
            "instance": settings.instance,
            "operatorVersion": settings.operator_version,
            "bucket": settings.default_bucket,
            "endpoint": settings.default_endpoint,
            "endpointInCluster": settings.default_endpoint_in_cluster,
            "region": settings.default_region,
            "prefix": settings.default_prefix,
            "secretName": settings.user_secret_name,
            "azureVault": settings.azure_vault,
            "secretStore": settings.secret_store,
            "pythonImages": json.dumps(dict(settings.python_images), sort_keys=True),
            "defaultImage": settings.default_image,
        },
    }


async def namespaces(api: Client, settings: Settings) -> list[str]:
    """The namespaces that are served; of a whole cluster all but Kubernetes' own."""
    if settings.watch_namespaces:
        return list(settings.watch_namespaces)
    found = await api.list(NAMESPACES)
    return [
        item["metadata"]["name"]
        for item in found["items"]
        if not item["metadata"]["name"].startswith("kube-")
        and not item["metadata"].get("deletionTimestamp")
    ]


class Claims:
    """Which of the watched namespaces are ours to serve.

    The ConfigMap says so: who keeps it serves the namespace. A release that names a namespace in
    its watchNamespaces takes it from one that watches all; else the first one keeps it.
    """

    def __init__(self, api: Client, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._looked: dict[str, float] = {}
        self.foreign: set[str] = set()
        """Namespaces that another release serves."""

    def is_ours(self, namespace: str) -> bool:
        """Whether we serve the namespace, as far as we know."""
        return self._settings.watches(namespace) and namespace not in self.foreign

    def is_fresh(self, namespace: str) -> bool:
        """Whether that was looked at lately."""
        return time.monotonic() - self._looked.get(namespace, -1e9) < LOOK_EVERY

    async def look(self, namespace: str) -> bool:
        """Make the ConfigMap say what it should, unless it is another release's; return if ours."""
        self._looked[namespace] = time.monotonic()
        try:
            owner = await self._announce(namespace)
        except ApiError as error:
            if error.status not in (404, 409):  # it is going away, or somebody was faster
                logger.warning("configmaps/shoal in %s can't be written: %s", namespace, error)
            return self.is_ours(namespace)
        if owner == self._settings.instance:
            self.foreign.discard(namespace)
        elif namespace not in self.foreign:
            logger.warning("namespace %s is served by the release %s: left alone", namespace, owner)
            self.foreign.add(namespace)
        return self.is_ours(namespace)

    async def _create(self, wanted: dict[str, Any], namespace: str) -> str:
        try:
            await self._api.create(CONFIGMAPS, wanted, namespace)
        except ApiError as error:
            if error.status != 409 or error.reason != "AlreadyExists":
                raise
            return await self._announce(namespace)  # somebody was faster: it says who
        return self._settings.instance

    async def _announce(self, namespace: str) -> str:
        """Bring the ConfigMap up to date; return whose it is."""
        wanted = config_map(self._settings)
        try:
            known = await self._api.get(CONFIGMAPS, names.CONFIG_MAP, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            return await self._create(wanted, namespace)
        labels = known["metadata"].get("labels") or {}
        owner = str(labels.get(names.INSTANCE) or "")
        stronger = bool(self._settings.watch_namespaces) and labels.get(names.CLAIM) != "named"
        if owner != self._settings.instance and not stronger:
            return owner or "(none)"
        if known.get("data") != wanted["data"] or labels != wanted["metadata"]["labels"]:
            gone: dict[str, Any] = {key: None for key in known.get("data") or {}}
            body = {
                "metadata": {"labels": wanted["metadata"]["labels"]},
                "data": {**gone, **wanted["data"]},
            }
            await self._api.patch(CONFIGMAPS, names.CONFIG_MAP, body, namespace)
        return self._settings.instance
