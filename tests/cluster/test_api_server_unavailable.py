"""The API server is down for a minute: maps go on, and their callers do not notice."""

from __future__ import annotations

import asyncio
import time

import pytest
from chaos import Chaos, until_answered
from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal

HERE = shoal.Deployment()
DOWN_SECONDS = 60.0


async def test_maps_survive_a_minute_without_an_api_server(user: Place, chaos: Chaos) -> None:
    def slow_square(item: int) -> int:
        time.sleep(0.1)
        return item * item

    host = user.host()
    following = shoal.run_map_as_completed(
        slow_square, range(800), host, None, HERE, 2, name="followed"
    )
    await following
    left = await shoal.submit_map(slow_square, range(800), host, None, HERE, 2, name="left")
    await user.until("MapJob", "left", lambda s: s.get("succeeded", 0) >= 20)

    async def follow() -> list[tuple[int, int]]:
        return [(task.task_id, task.result_or_raise()) async for task in following]

    caller = asyncio.create_task(follow())
    async with chaos.no_api_server():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DOWN_SECONDS):
                await asyncio.shield(caller)
    await until_answered(user.api)
    squares = [item * item for item in range(800)]
    async with asyncio.timeout(90):
        assert sorted(await caller) == list(enumerate(squares))
        assert await left.result() == squares
    assert (await check_all_once(user, "followed", squares)).charges == []
    assert (await check_all_once(user, "left", squares)).charges == []


async def test_cut_watches_and_a_hanging_api_server_go_unnoticed(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    is_open = gate.is_open

    def square(item: int) -> int:
        while item >= 100 and not is_open():
            time.sleep(0.05)
        return item * item

    handle = await shoal.submit_map(square, range(400), user.host(), None, HERE, 2, name="cut")
    results = asyncio.create_task(handle.result())
    await user.until("MapJob", "cut", lambda s: s.get("succeeded", 0) >= 90)
    for _ in range(3):
        await chaos.cut_watches()
        await until_answered(user.api)
    await gate.open()
    async with chaos.hanging_api_server():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.shield(results)
    squares = [item * item for item in range(400)]
    async with asyncio.timeout(60):
        assert await results == squares
    assert (await check_all_once(user, "cut", squares)).charges == []
