"""A namespace is a tenant: what names another one's keys gets nothing signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from namespaces import Place, condition

import shoal

PLAIN = shoal.Deployment()


async def secret_job(place: Place) -> dict[str, Any]:
    """Let a user compute something of his own; return the resource."""
    handle = await shoal.submit_function(lambda: "their secret", place.host(), None, PLAIN)
    assert await handle.result() == "their secret"
    return await place.get("Job", handle.name)


@pytest.mark.parametrize("aside", [False, True], ids=["same id", "prefix"])
async def test_a_resource_that_names_anothers_inputs_gets_nothing(
    user: Place, other_user: Place, aside: bool
) -> None:
    theirs = await secret_job(user)
    spec = {key: theirs["spec"][key] for key in ("id", "function")}
    if aside:
        told = theirs["status"]["storage"]
        spec["storage"] = {
            "bucket": told["bucket"],
            "endpoint": told["endpoint"],
            "endpointInCluster": told["endpointInCluster"],
            "prefix": f"aside/{user.namespace}",
            "secretName": "shoal-minio",
        }
    status = await other_user.run("Job", "copied", spec)
    assert condition(status, "Failed")["reason"] == "InputsNotFound"
    assert "their secret" not in json.dumps(status)
