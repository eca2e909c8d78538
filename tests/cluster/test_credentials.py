"""No credential reaches a Pod, and no payload a custom resource."""

from __future__ import annotations

import json
import os

from namespaces import RELEASE_NAMESPACE, Place, secret_value

import shoal
from shoal.kube import MAPJOBS, SECRETS

PLAIN = shoal.Deployment()


async def test_a_workers_pod_shows_no_credential_of_the_bucket(user: Place) -> None:
    seen = await shoal.run_function(lambda: dict(os.environ), user.host(), deployment=PLAIN)
    secret = await user.api.get(SECRETS, "shoal-minio", RELEASE_NAMESPACE)
    pods = await user.pods()
    assert pods
    assert secret_value(secret, "password") not in json.dumps([pods, seen])
    assert "shoal-minio" not in json.dumps(pods), "not even the Secret's name"


async def test_a_worker_has_no_token_for_the_api_server(user: Place) -> None:
    def look() -> list[str]:
        folder = "/var/run/secrets/kubernetes.io/serviceaccount"
        return os.listdir(folder) if os.path.isdir(folder) else []

    assert await shoal.run_function(look, user.host(), deployment=PLAIN) == []


async def test_the_resource_of_a_large_map_stays_small(user: Place) -> None:
    items = [{"number": number, "text": "x" * 100} for number in range(10_000)]
    handle = await shoal.submit_map(
        lambda item: item["number"], items, user.host(), None, PLAIN, num_concurrent_tasks=2
    )
    assert await handle.result() == list(range(10_000))
    stored = await user.api.get(MAPJOBS, handle.name, user.namespace)
    assert len(json.dumps(stored)) < 10_000
