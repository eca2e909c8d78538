"""Two operators at once, by mistake: the ledger does not fork, and no result is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos import RELEASE, WORKLOADS, Chaos
from gates import Gate
from ledgers import check_all_once, read
from namespaces import RELEASE_NAMESPACE, Place, condition

import shoal

HERE = shoal.Deployment()


async def test_the_lease_changes_hands_while_its_holder_works(user: Place, chaos: Chaos) -> None:
    def slow_square(item: int) -> int:
        time.sleep(0.02)
        return item * item

    async with chaos.second_operator():
        handle = await shoal.submit_map(
            slow_square, range(1500), user.host(), None, HERE, 3, name="contended"
        )
        for share in (100, 400, 700):
            await user.until("MapJob", "contended", lambda s, n=share: s.get("succeeded", 0) >= n)
            # the one before works on for some seconds, until it looks at the Lease again
            await chaos.free_lease()
        squares = [item * item for item in range(1500)]
        async with asyncio.timeout(120):
            assert await handle.result() == squares
    assert (await check_all_once(user, "contended", squares)).charges == []


WITHOUT_LEASE = """
import asyncio, sys
from shoal_operator import lease

async def take(self):
    self.epoch = 10_000

async def keep(self):
    await asyncio.Event().wait()

async def release(self):
    return None

lease.Lease.take, lease.Lease.keep, lease.Lease.release = take, keep, release
lease.Lease.held = property(lambda self: True)
from shoal_operator.__main__ import main
sys.exit(main(["run"]))
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def stranger(place: Place) -> AsyncIterator[None]:
    """A second operator of the same release that never asks for the Lease."""
    deployment = await place.api.get(WORKLOADS, RELEASE, RELEASE_NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value", "") for one in container["env"]} | {
        "SHOAL_OP_WATCH_NAMESPACES": place.namespace,
        "SHOAL_OP_DEFAULT_ENDPOINT_IN_CLUSTER": os.environ["SHOAL_ENDPOINT_URL"],
        "SHOAL_OP_PORT": str(free_port()),
        "SHOAL_OP_HEALTH_PORT": str(free_port()),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITHOUT_LEASE),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = []

    async def hear(stream: asyncio.StreamReader, ready: asyncio.Event) -> None:
        async for line in stream:
            said.append(line.decode())
            if b"ready: dispatcher" in line:
                ready.set()

    ready = asyncio.Event()
    hearing = asyncio.create_task(hear(process.stderr, ready))
    try:
        async with asyncio.timeout(30):
            await ready.wait()
        yield
    except TimeoutError:
        raise AssertionError("".join(said)) from None
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        await hearing


async def test_an_operator_that_ignores_the_lease_can_not_fork_the_ledger(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    is_open = gate.is_open

    def square(item: int) -> int:
        while item >= 50 and not is_open():
            time.sleep(0.05)
        return item * item

    host = user.host()
    first = await shoal.submit_map(square, range(100), host, None, HERE, 2, name="first")
    ended = await shoal.submit_map(square, range(100), host, None, HERE, 2, name="ended")
    for name in ("first", "ended"):
        await user.until("MapJob", name, lambda s: s.get("succeeded", 0) >= 50)
    async with stranger(user):
        second = await shoal.submit_map(square, range(100), host, None, HERE, 2, name="second")
        await user.until("MapJob", "second", lambda s: s.get("succeeded", 0) >= 50)
        await ended.cancel()  # both operators want to write the last entry now
        await gate.open()
        squares = [item * item for item in range(100)]
        async with asyncio.timeout(60):
            assert await first.result() == squares
            assert await second.result() == squares
            status = await user.end("MapJob", "ended")
    await check_all_once(user, "first", squares)
    await check_all_once(user, "second", squares)
    assert condition(status, "Failed")["reason"] == "Cancelled"
    book = await read(user, status)
    assert [end.outcome for end in book.terminal] == ["cancelled"]
    assert book.entries[-1].terminal is not None
    counted = Counter(record.task for record in book.records)
    assert set(counted.values()) == {1}
    assert book.values() == {index: index * index for index in counted}
