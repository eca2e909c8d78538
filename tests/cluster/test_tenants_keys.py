"""A namespace is a tenant: what names another one's keys gets nothing signed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from namespaces import Place, condition

import shoal

PLAIN = shoal.Deployment()


async def secret_job(place: Place) -> dict[str, Any]:
    """Let a user compute something of his own; return the resource."""
    handle = await shoal.submit_function(lambda: "their secret", place.host(), None, PLAIN)
    assert await handle.result() == "their secret"
    return await place.get("Job", handle.name)


async def test_a_resource_that_names_anothers_inputs_gets_nothing(
    user: Place, other_user: Place, third_user: Place
) -> None:
    theirs = await secret_job(user)
    same_id = {key: theirs["spec"][key] for key in ("id", "function")}
    told = theirs["status"]["storage"]
    aside = {
        "bucket": told["bucket"],
        "endpoint": told["endpoint"],
        "endpointInCluster": told["endpointInCluster"],
        "prefix": f"aside/{user.namespace}",
        "secretName": "shoal-minio",
    }
    for status in await asyncio.gather(
        other_user.run("Job", "same-id", same_id),
        third_user.run("Job", "prefix", {**same_id, "storage": aside}),
    ):
        assert condition(status, "Failed")["reason"] == "InputsNotFound"
        assert "their secret" not in json.dumps(status)
