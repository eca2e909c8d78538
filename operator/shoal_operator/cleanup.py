"""Deletes what the operator made at run time and Helm does not know of (its pre-delete hook).

Worker Pods, operator-made Deployments, the ConfigMaps `shoal`, the authority's Secret, the Lease
and the Events of jobs. Jobs and MapJobs are the users' and stay, and so does what is in buckets.
"""

from __future__ import annotations

import asyncio
import logging

from shoal.errors import ApiError
from shoal.kube import CONFIGMAPS, DEPLOYMENTS, LEASES, PODS, SECRETS, Client, Resource, connect

from . import names
from .discovery import namespaces
from .settings import Settings

logger = logging.getLogger(__name__)

STOP_SECONDS = 60.0
"""How long the operator may take to stop."""
APPS_DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")


async def clean_up(settings: Settings) -> None:
    """Stop the operator, then delete all that carries this release's label."""
    async with await connect() as api:
        await _stop_operator(api, settings)
        for namespace in await namespaces(api, settings):
            await _delete_labelled(api, DEPLOYMENTS, namespace, settings)
            await _delete_labelled(api, PODS, namespace, settings)
            await _delete_config_map(api, namespace, settings)
        await api.delete(SECRETS, settings.authority_secret, settings.namespace)
        await api.delete(LEASES, settings.lease_name, settings.namespace)


async def _stop_operator(api: Client, settings: Settings) -> None:
    """Scale it to nothing and wait for its Pod to be gone, or it would make again what we
    delete."""
    name, namespace = settings.service_name, settings.namespace
    try:
        body = {"spec": {"replicas": 0}}
        await api.patch(APPS_DEPLOYMENTS, name, body, namespace, subresource="scale")
        lease = await api.get(LEASES, settings.lease_name, namespace)
    except ApiError as error:
        if error.status == 404:
            return
        raise
    pod = ((lease.get("spec") or {}).get("holderIdentity") or "").partition("_")[0]
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while pod:
                await api.get(PODS, pod, namespace)
                await asyncio.sleep(0.5)
    except ApiError as error:
        if error.status != 404:
            raise
    except TimeoutError:
        logger.warning("the operator's Pod %s did not stop within %g s", pod, STOP_SECONDS)


async def _delete_config_map(api: Client, namespace: str, settings: Settings) -> None:
    try:
        known = await api.get(CONFIGMAPS, names.CONFIG_MAP, namespace)
    except ApiError as error:
        if error.status == 404:
            return
        raise
    if (known["metadata"].get("labels") or {}).get(names.INSTANCE) == settings.instance:
        await api.delete(CONFIGMAPS, names.CONFIG_MAP, namespace, uid=known["metadata"]["uid"])


async def _delete_labelled(
    api: Client, resource: Resource, namespace: str, settings: Settings
) -> None:
    labels = names.ours(settings.instance)
    if resource is DEPLOYMENTS:
        labels[names.AUTO] = "true"
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    try:
        found = await api.list(resource, namespace, label_selector=selector)
    except ApiError as error:
        if error.status == 404:  # the kind itself is gone
            return
        raise
    for item in found["items"]:
        name = item["metadata"]["name"]
        await api.delete(resource, name, namespace, uid=item["metadata"]["uid"])
        logger.info("deleted %s in %s", resource.full_name(name), namespace)
