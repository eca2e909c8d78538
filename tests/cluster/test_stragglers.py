"""Slow tasks hold up nobody: what stands behind them moves on, and near the end they get a copy."""

from __future__ import annotations

import asyncio

from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal

HERE = shoal.Deployment()


async def test_a_long_task_does_not_hold_the_short_ones_behind_it(user: Place, gate: Gate) -> None:
    wait = gate.wait

    def square(item: int) -> int:
        if item == 3:
            wait()
        return item * item

    handle = await shoal.submit_map(square, range(2000), user.host(), None, HERE, 2, name="mixed")
    await user.until("MapJob", "mixed", lambda s: s.get("succeeded", 0) == 1999, seconds=30)
    await gate.open()
    squares = [item * item for item in range(2000)]
    async with asyncio.timeout(30):
        assert await handle.result() == squares
    assert (await check_all_once(user, "mixed", squares)).charges == []


async def test_an_idle_worker_copies_the_slowest_task_and_the_first_result_counts(
    user: Place, gate: Gate
) -> None:
    is_quick, never = gate.is_open, Gate(user, "never").wait

    def where(item: int) -> str:
        import platform

        if item == 39 and not is_quick():
            never()  # the copy will find the gate open, this one does not look again
        return platform.node()

    handle = await shoal.submit_map(
        where, range(40), user.host(), None, HERE, 2, speculation=True, name="straggler"
    )
    await user.until("MapJob", "straggler", lambda s: s.get("succeeded", 0) == 39)
    await gate.open()
    async with asyncio.timeout(60):
        results = await handle.result()
    assert len(results) == 40
    assert (await check_all_once(user, "straggler", results)).charges == []
    # both workers are free again, the slow one as well
    await user.until_pods(lambda pods: len(pods) == 2)
    async with asyncio.timeout(30):
        both = await shoal.run_map(lambda n: n, range(100), user.host(), None, HERE, 2)
    assert both == list(range(100))
