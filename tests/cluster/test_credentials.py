"""No credential reaches a Pod, and no payload a custom resource."""

from __future__ import annotations

import base64
import json

from conftest import Space, kubectl

import shoal


async def test_a_workers_pod_shows_no_credential_of_the_bucket(space: Space) -> None:
    environment = await shoal.run_function(
        lambda: dict(__import__("os").environ), space.host(), deployment=shoal.Deployment()
    )
    secret = json.loads(kubectl("get", "secret", "shoal-minio", "-n", "default", "-o", "json"))
    values = [base64.b64decode(value).decode() for value in secret["data"].values()]
    pods = space.kubectl("get", "pods", "-o", "yaml")
    assert "shoal-worker" in pods or "worker" in pods
    for value in values:
        assert value not in pods
        assert value not in json.dumps(environment)
    assert "shoal-minio" not in pods, "not even the Secret's name"


async def test_a_worker_has_no_token_for_the_api_server(space: Space) -> None:
    def look() -> list[str]:
        import os

        folder = "/var/run/secrets/kubernetes.io/serviceaccount"
        return os.listdir(folder) if os.path.isdir(folder) else []

    plain = shoal.Deployment()
    assert await shoal.run_function(look, space.host(), deployment=plain) == []


async def test_the_resource_of_a_large_map_stays_small(space: Space) -> None:
    items = [{"number": number, "text": "x" * 100} for number in range(10_000)]
    handle = await shoal.submit_map(
        lambda item: item["number"],
        items,
        space.host(),
        deployment=shoal.Deployment(),
        num_concurrent_tasks=2,
    )
    assert await handle.result() == list(range(10_000))
    stored = space.kubectl("get", f"mapjobs.shoal.dev/{handle.name}", "-o", "json")
    assert len(json.dumps(json.loads(stored))) < 10_000
