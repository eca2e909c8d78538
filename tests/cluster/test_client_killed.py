"""The caller's process is killed: the map goes on, and another process has all of its results."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from gates import Gate
from ledgers import check_all_once
from namespaces import Place

import shoal

SQUARES = [item * item for item in range(60)]


@asynccontextmanager
async def caller(place: Place, call: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that makes `call`, in which `square`, `host` and `here` have their meaning."""
    program = f"""
        import asyncio, shoal, socket, time
        host = shoal.Kubernetes(kubernetes_namespace={place.namespace!r})
        here = shoal.Deployment()
        def is_open():
            try:
                return socket.gethostbyname("gate.{place.namespace}.svc.cluster.local")
            except OSError:
                return ""
        def square(item):
            while item >= 30 and not is_open():
                time.sleep(0.05)
            return item * item
        if __name__ == "__main__":
            asyncio.run({call})
    """
    words = (sys.executable, "-c", textwrap.dedent(program))
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_killed_callers_map_goes_on_and_can_be_attached_to(user: Place, gate: Gate) -> None:
    call = "shoal.run_map(square, range(60), host, None, here, 2, name='orphan')"
    async with caller(user, call) as process:
        await user.until("MapJob", "orphan", lambda s: s.get("succeeded", 0) >= 30)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    handle = await shoal.attach("orphan", user.host())

    # a reader takes what is there, and is gone; where it stood is a short text
    first: dict[int, int] = {}
    async with aclosing(handle.results()) as reading:
        async for task in reading:
            first[task.task_id] = task.result_or_raise()
            if len(first) == 20:
                break
    cursor = task.cursor
    assert isinstance(cursor, str)
    assert len(cursor) < 200
    await gate.open()

    # another one goes on from there, and one reads from the start
    again = await shoal.attach("orphan", user.host())
    rest = [(task.task_id, task.result_or_raise()) async for task in again.results(after=cursor)]
    assert len(dict(rest)) == len(rest)
    assert {**first, **dict(rest)} == dict(enumerate(SQUARES))
    async with asyncio.timeout(60):
        assert await (await shoal.attach("orphan", user.host())).result() == SQUARES
    await check_all_once(user, "orphan", SQUARES)


async def test_callers_that_do_not_wait_are_gone_at_once(user: Place, gate: Gate) -> None:
    await gate.open()
    calls = (
        "shoal.run_map(square, range(60), host, None, here, 2, wait_for_result=False, name='m')",
        "shoal.run_function(square, host, None, here, [5], wait_for_result=False, name='f')",
        "shoal.run_command('true', host, None, here, wait_for_result=False, name='c')",
    )
    for call in calls:
        async with caller(user, call) as process, asyncio.timeout(30):
            _, said = await process.communicate()
            assert process.returncode == 0, said.decode()
    host = user.host()
    async with asyncio.timeout(60):
        assert await (await shoal.attach("m", host)).result() == SQUARES
        assert await (await shoal.attach("f", host)).result() == 25
        assert (await (await shoal.attach("c", host)).result()).return_code == 0
