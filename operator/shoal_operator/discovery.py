"""The ConfigMap `shoal` in each watched namespace: what a client must know, and may read.

`shoal.Kubernetes()` without arguments works from it. One that another release keeps is left alone.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from shoal.errors import ApiError
from shoal.kube import CONFIGMAPS, NAMESPACES, Client

from . import names
from .settings import Settings

logger = logging.getLogger(__name__)


def config_map(settings: Settings) -> dict[str, Any]:
    """The ConfigMap, the same in each namespace."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.CONFIG_MAP, "labels": names.ours(settings.instance)},
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


async def announce(api: Client, settings: Settings, namespace: str) -> None:
    """Make the ConfigMap of one namespace say what it should."""
    wanted = config_map(settings)
    try:
        try:
            known = await api.get(CONFIGMAPS, names.CONFIG_MAP, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            await api.create(CONFIGMAPS, wanted, namespace)
            return
        owner = (known["metadata"].get("labels") or {}).get(names.INSTANCE)
        if owner != settings.instance:
            logger.warning(
                "configmaps/shoal in %s belongs to %s: left alone", namespace, owner or "somebody"
            )
        elif known.get("data") != wanted["data"]:
            data: dict[str, Any] = {key: None for key in known.get("data") or {}}
            body = {"data": {**data, **wanted["data"]}}
            await api.patch(CONFIGMAPS, names.CONFIG_MAP, body, namespace)
    except ApiError as error:
        if error.status not in (404, 409):  # the namespace is going away, or somebody was faster
            logger.warning("configmaps/shoal in %s could not be written: %s", namespace, error)
