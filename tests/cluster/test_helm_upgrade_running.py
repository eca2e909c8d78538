"""`helm upgrade` replaces the operator while maps run; `helm rollback` does it once more."""

from __future__ import annotations

import asyncio
import secrets
import time

from chaos import Chaos
from ledgers import check_all_once
from namespaces import Place

import shoal

HERE = shoal.Deployment()


async def test_maps_run_through_an_upgrade_and_its_rollback(user: Place, chaos: Chaos) -> None:
    def slow_square(item: int) -> int:
        time.sleep(0.02)
        return item * item

    host = user.host()
    names = ("one", "two", "three")
    handles = [
        await shoal.submit_map(slow_square, range(1000), host, None, HERE, 2, name=name)
        for name in names
    ]
    results = asyncio.gather(*(handle.result() for handle in handles))
    await user.until("MapJob", "one", lambda s: s.get("succeeded", 0) >= 50)
    workers = {pod["metadata"]["uid"] for pod in await user.pods()}
    (before,) = await chaos.operators()
    await chaos.upgrade(secrets.token_hex(4))
    (after,) = await chaos.operators()
    await chaos.roll_back()
    (last,) = await chaos.operators()
    assert len({pod["metadata"]["uid"] for pod in (before, after, last)}) == 3
    squares = [item * item for item in range(1000)]
    async with asyncio.timeout(90):
        assert await results == [squares] * 3
    assert workers <= {pod["metadata"]["uid"] for pod in await user.pods()}
    for name in names:
        assert (await check_all_once(user, name, squares)).charges == []
