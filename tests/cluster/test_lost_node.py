"""A node loses its power, and a worker elsewhere its network: others do their tasks.

Nobody tells of either, so silence does (`shoal.dispatch.dispatcher.SILENCE_SECONDS`). Both come
back while the map still runs: what they say then changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from chaos import Chaos
from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal
from shoal.dispatch.dispatcher import SILENCE_SECONDS

HERE = shoal.Deployment()
COUNT = 64


async def test_a_map_ends_without_a_lost_node_and_a_silent_worker(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    all_gone, last = gate.is_open, Gate(user, "last").wait

    def square(item: int) -> int:
        while item >= COUNT // 2 and not all_gone():
            time.sleep(0.05)
        if item == COUNT - 1:
            last()  # so that the map still runs when they are back
        return item * item

    node = await chaos.victim()
    await chaos.keep_operator_off(node)
    async with chaos.cordoned(await chaos.other(node)):
        handle = await shoal.submit_map(
            square, range(COUNT), user.host(), None, HERE, 2, name="lost"
        )
        await user.until_pods(lambda pods: len(pods) == 2 and all(map(address_of, pods)))
    async with chaos.cordoned(node):
        await handle.set_parallelism(5)
        pods = await user.until_pods(lambda pods: len(pods) == 5 and all(map(address_of, pods)))
    stays = [pod for pod in pods if node_of(pod) != node]
    assert len(stays) == 3
    await user.until("MapJob", "lost", lambda s: s.get("succeeded", 0) >= COUNT // 2)
    async with AsyncExitStack() as faults:
        await faults.enter_async_context(chaos.lost_node(node))
        await faults.enter_async_context(chaos.cut_off(stays[0]))
        await gate.open()
        seconds = SILENCE_SECONDS + 30
        await user.until(
            "MapJob", "lost", lambda s: s.get("succeeded", 0) >= COUNT - 1, seconds=seconds
        )
    # the node is back, and the silent worker speaks again
    await Gate(user, "last").open()
    squares = [item * item for item in range(COUNT)]
    async with asyncio.timeout(60):
        assert await handle.result() == squares
    book = await check_all_once(user, "lost", squares)
    assert all(charge.kind == "disruption" for charge in book.charges)


def node_of(pod: dict[str, Any]) -> str:
    return str(pod["spec"].get("nodeName", ""))


def address_of(pod: dict[str, Any]) -> str:
    return str(pod["status"].get("podIP", ""))
