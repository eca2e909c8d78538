"""ExternalSecrets: a cloud's secret that the External Secrets Operator reads with its own login.

Where the chart names a store, the SDK makes one of these in place of a Secret. The operator of that
name makes the Secret, fills it by the template, and says in the condition Ready how it went.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from shoal.errors import ConfigurationError, SecretNotFound
from shoal.kube import Client, Resource
from shoal.secret_payloads import registry_of

EXTERNAL_SECRETS = Resource("external-secrets.io", "v1", "externalsecrets", "ExternalSecret")
SYNC_SECONDS = 30.0
"""How long the operator may take to make the Secret."""


def pull_spec(store: str, key: str, repository: str, name: str) -> dict[str, Any]:
    """Return what makes a pull secret of the secret `key`, which is JSON as for any image.

    `store` is such as ClusterSecretStore/aws; `name` is the Secret's.
    """
    kind, slash, of = store.partition("/")
    if kind not in ("SecretStore", "ClusterSecretStore") or not slash or not of:
        raise ConfigurationError(
            f"The ConfigMap shoal names the store {store!r}: it must be such as "
            "ClusterSecretStore/NAME (the chart's secrets.secretStore)"
        )
    login = (
        '{"username":{{ .username | toJson }},"password":{{ .password | toJson }},'
        '"auth":{{ printf "%s:%s" .username .password | b64enc | toJson }}}'
    )
    config = f'{{"auths":{{{json.dumps(registry_of(repository))}:{login}}}}}'
    return {
        "refreshInterval": "1h",
        "secretStoreRef": {"kind": kind, "name": of},
        "target": {
            "name": name,
            "creationPolicy": "Owner",
            "template": {
                "engineVersion": "v2",
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": config},
            },
        },
        "dataFrom": [{"extract": {"key": key}}],
    }


async def until_synced(api: Client, namespace: str, name: str, of: str) -> None:
    """Wait for the Secret of an ExternalSecret; `of` is what it is made of.

    Raises:
        SecretNotFound: the operator could not make it, or has not within SYNC_SECONDS.
    """
    try:
        async with asyncio.timeout(SYNC_SECONDS):
            watch = api.watch(EXTERNAL_SECRETS, namespace, name=name)
            async with aclosing(watch) as events:
                async for event in events:
                    found = event.object["items"] if event.type == "LISTED" else [event.object]
                    for ready in filter(None, map(_ready, found)):
                        if ready["status"] == "True":
                            return
                        raise SecretNotFound(
                            f"{of} can't be read by the External Secrets Operator: "
                            f"{EXTERNAL_SECRETS.full_name(name)} in namespace {namespace} says "
                            f"{ready.get('message') or ready.get('reason')}"
                        )
    except TimeoutError:
        raise SecretNotFound(
            f"{of} has not become a Secret within {SYNC_SECONDS:.0f} s. Is the External Secrets "
            f"Operator running (`kubectl describe {EXTERNAL_SECRETS.full_name(name)} -n "
            f"{namespace}`)?"
        ) from None


def _ready(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "Ready" and c["status"] != "Unknown"), None)
