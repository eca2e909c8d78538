"""Small makers of what the operator's pure parts take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shoal_operator.cache import CustomResource
from shoal_operator.observe import PodFact
from shoal_operator.settings import Settings

Make = Callable[..., Any]


@pytest.fixture
def settings() -> Settings:
    return Settings(
        namespace="shoal-system",
        instance="shoal",
        cluster_id="cluster",
        service_name="shoal",
        default_bucket="bucket",
        default_endpoint="http://outside:9000",
        default_endpoint_in_cluster="http://inside:9000",
        bucket_secret="key",
        default_image="python:3.11-slim",
        python_images={"3.12": "mirror/python:3.12"},
    )


@pytest.fixture
def job() -> Make:
    def make(
        spec: dict[str, Any] | None = None, kind: str = "Job", **fields: Any
    ) -> CustomResource:
        body = {
            "metadata": {
                "namespace": "default",
                "name": fields.pop("name", "x"),
                "uid": fields.pop("uid", "11111111-2222-3333-4444-555555555555"),
                "resourceVersion": "7",
                "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                **fields.pop("metadata", {}),
            },
            "spec": spec or {"function": {"name": "math.gcd", "args": [12, 18]}},
            "status": fields.pop("status", {}),
        }
        assert not fields
        return CustomResource.of(kind, body)

    return make


@pytest.fixture
def pod() -> Make:
    def make(uid: str = "pod-1", **fields: Any) -> PodFact:
        known: dict[str, Any] = {
            "uid": uid,
            "name": f"worker-{uid}",
            "namespace": "default",
            "pool": "0123456789ab",
            "owner_uid": "owner",
            "mac": "",
            "created": 1000.0,
        }
        return PodFact(**(known | fields))

    return make
