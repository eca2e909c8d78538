"""A node is drained under a map: its workers are evicted, others do their tasks."""

from __future__ import annotations

from chaos import Chaos
from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal

HERE = shoal.Deployment()


async def test_a_map_goes_on_while_a_node_is_drained(user: Place, chaos: Chaos, gate: Gate) -> None:
    wait = gate.wait

    def square(item: int) -> int:
        if item >= 96:
            wait()  # so that every worker holds one when the node is drained
        return item * item

    node = await chaos.victim()
    async with chaos.cordoned(await chaos.other(node)):
        handle = await shoal.submit_map(
            square, range(100), user.host(), None, HERE, 2, name="drained"
        )
        before = await user.until_pods(lambda pods: len(pods) == 2 and all(map(node_of, pods)))
        evicted = {uid(pod) for pod in before}
    await handle.set_parallelism(4)
    await user.until("MapJob", "drained", lambda s: s.get("succeeded", 0) == 96)
    async with chaos.drained(node):
        assert evicted.isdisjoint({uid(pod) for pod in await user.pods()})
        await gate.open()
        assert await handle.result() == [item * item for item in range(100)]
        assert all(node_of(pod) != node for pod in await user.pods())
    book = await check_all_once(user, "drained", [item * item for item in range(100)])
    assert all(charge.kind == "disruption" for charge in book.charges)
    assert all(charge.index >= 96 for charge in book.charges)


def uid(pod: dict[str, dict[str, str]]) -> str:
    return pod["metadata"]["uid"]


def node_of(pod: dict[str, dict[str, str]]) -> str:
    return pod["spec"].get("nodeName", "")
