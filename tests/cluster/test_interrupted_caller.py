"""Who interrupts a call ends its job; who said so beforehand leaves it running."""

from __future__ import annotations

import asyncio
import signal

import pytest
from gates import Gate
from namespaces import Place, condition
from test_client_killed import SQUARES, caller

import shoal

HERE = shoal.Deployment()
CALL = "shoal.run_map(square, range(60), host, None, here, 2, name='waited'{more})"


async def interrupted(user: Place, more: str) -> None:
    """Send Ctrl-C to a process that waits for the map `waited`."""
    async with caller(user, CALL.format(more=more)) as process:
        await user.until("MapJob", "waited", lambda s: s.get("succeeded", 0) >= 30)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            _, said = await process.communicate()
        assert process.returncode == -signal.SIGINT, said.decode()
        assert b"KeyboardInterrupt" in said


async def test_ctrl_c_cancels_the_job_and_nothing_stays(user: Place) -> None:
    await interrupted(user, "")
    status = await user.end("MapJob", "waited", seconds=20)
    assert status["phase"] == "Cancelled"
    assert condition(status, "Failed")["reason"] == "Cancelled"
    # its workers are free, at once
    async with asyncio.timeout(20):
        assert await shoal.run_function(lambda: 1, user.host(), None, HERE) == 1


async def test_ctrl_c_leaves_the_job_where_that_was_wished(user: Place, gate: Gate) -> None:
    await interrupted(user, ", detach_on_interrupt=True")
    assert (await user.get("MapJob", "waited"))["status"]["phase"] == "Running"
    await gate.open()
    async with asyncio.timeout(60):
        assert await (await shoal.attach("waited", user.host())).result() == SQUARES


@pytest.mark.parametrize("detach", [False, True])
async def test_a_cancelled_task_and_a_break(user: Place, gate: Gate, detach: bool) -> None:
    wait, host = gate.wait, user.host()

    def square(item: int) -> int:
        if item >= 5:
            wait()
        return item * item

    waiting = asyncio.create_task(
        shoal.run_map(
            square, range(10), host, None, HERE, 1, name="task", detach_on_interrupt=detach
        )
    )
    tasks = shoal.run_map_as_completed(
        square, range(10), host, None, HERE, 1, name="break", detach_on_interrupt=detach
    )
    async for task in tasks:
        assert task.result_or_raise() == task.task_id**2
        break
    await user.until("MapJob", "task", lambda s: s.get("succeeded", 0) >= 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if detach:
        await gate.open()
        async with asyncio.timeout(60):
            for name in ("task", "break"):
                handle = await shoal.attach(name, host)
                assert await handle.result() == [item * item for item in range(10)]
    else:
        for name in ("task", "break"):
            assert (await user.end("MapJob", name, seconds=20))["phase"] == "Cancelled"
