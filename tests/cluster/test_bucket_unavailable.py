"""The bucket is away for a minute, or hangs: nothing fails, and nothing is lost or twice there."""

from __future__ import annotations

import asyncio
import time

import pytest
from chaos import Chaos
from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal

HERE = shoal.Deployment()
AWAY_SECONDS = 62.0


async def test_maps_survive_a_minute_without_a_bucket(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    is_open, host = gate.is_open, user.host()

    def small(item: int) -> int:
        while item >= 20 and not is_open():
            time.sleep(0.05)
        return item * item

    def large(item: int) -> bytes:
        while item >= 4 and not is_open():
            time.sleep(0.05)
        return bytes([item]) * 200_000

    maps = {
        "small": await shoal.submit_map(small, range(200), host, None, HERE, 2, name="small"),
        "large": await shoal.submit_map(large, range(20), host, None, HERE, 2, name="large"),
    }
    await user.until("MapJob", "small", lambda s: s.get("succeeded", 0) == 20)
    await user.until("MapJob", "large", lambda s: s.get("succeeded", 0) == 4)
    async with chaos.bucket_away(refuse=True):
        start = time.monotonic()
        await gate.open()  # from here on there are results, and nowhere to put them
        spec = {"function": {"name": "math.gcd", "args": [12, 18]}}
        await user.apply("Job", "meanwhile", spec)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(AWAY_SECONDS - (time.monotonic() - start)):
                await maps["small"].result()
        assert {(await handle.status()).phase for handle in maps.values()} == {"Running"}
    squares = [item * item for item in range(200)]
    blobs = [bytes([item]) * 200_000 for item in range(20)]
    async with asyncio.timeout(60):
        assert await maps["small"].result() == squares
        assert await maps["large"].result() == blobs
        assert (await user.end("Job", "meanwhile"))["result"] == 6
    assert (await check_all_once(user, "small", squares)).charges == []
    assert (await check_all_once(user, "large", blobs)).charges == []


@pytest.mark.parametrize("way", ["hangs", "vanishes"])
async def test_a_map_survives_a_bucket_that_does_not_answer(
    user: Place, chaos: Chaos, gate: Gate, way: str
) -> None:
    is_open = gate.is_open

    def blob(item: int) -> bytes:
        while item >= 4 and not is_open():
            time.sleep(0.05)
        return bytes([item]) * (100_000 if item % 2 else 10)

    blobs = [bytes([item]) * (100_000 if item % 2 else 10) for item in range(40)]
    handle = await shoal.submit_map(blob, range(40), user.host(), None, HERE, 2, name="silent")
    await user.until("MapJob", "silent", lambda s: s.get("succeeded", 0) >= 4)
    fault = chaos.bucket_hangs() if way == "hangs" else chaos.bucket_away(refuse=False)
    async with fault:
        await gate.open()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(12):  # longer than any one attempt to reach the bucket
                await handle.result()
    async with asyncio.timeout(60):
        assert await handle.result() == blobs
    assert (await check_all_once(user, "silent", blobs)).charges == []
