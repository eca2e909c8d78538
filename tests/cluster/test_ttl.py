"""The end of a job's time: resource, Pods and keys go together, and no prefix is orphaned."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chaos import Chaos
from ledgers import prefix_of
from namespaces import Place, bucket

import shoal
from shoal.errors import ApiError
from shoal.kube import MAPJOBS

HERE = shoal.Deployment()


async def test_all_of_a_finished_job_goes_and_what_was_deleted_unseen_too(
    user: Place, chaos: Chaos
) -> None:
    storage = await bucket(user.api)

    async def keys(prefix: str) -> list[str]:
        return await asyncio.to_thread(lambda: [i.key for i in storage.list(f"{prefix}/")])

    def large(item: int) -> bytes:
        print(item)
        return bytes([item]) * 100_000

    handle = await shoal.submit_map(large, range(4), user.host(), None, HERE, 1, name="unseen")
    assert len(await handle.result()) == 4
    unseen = await prefix_of(user, (await user.get("MapJob", "unseen"))["status"])
    parts = {key.removeprefix(f"{unseen}/").partition("/")[0] for key in await keys(unseen)}
    assert parts >= {"ledger", "logs", "results"}
    async with chaos.no_operator():  # nobody sees the deletion
        await user.api.delete(MAPJOBS, "unseen", user.namespace)

    spec: dict[str, Any] = {
        "function": {"name": "math.sqrt"},
        "items": {"inline": [4, 9]},
        "isolation": "job",
        "ttlSecondsAfterFinished": 2,
    }
    short = await prefix_of(user, await user.run("MapJob", "short", spec))
    assert await keys(short)
    left: dict[str, Any] = {}
    try:
        async with asyncio.timeout(90):
            while left := {
                "resource": await is_there(user, "short"),
                "Pods": [p for p in await user.pods() if "short" in p["metadata"]["name"]],
                "keys": await keys(short),
                "keys of what was deleted unseen": await keys(unseen),
            }:
                if not any(left.values()):
                    return
                await asyncio.sleep(0.5)
    except TimeoutError:
        pytest.fail(f"left: { {what: found for what, found in left.items() if found} }")


async def is_there(place: Place, name: str) -> bool:
    try:
        await place.get("MapJob", name)
    except ApiError as error:
        assert error.status == 404, error
        return False
    return True
