"""What tasks print: to the caller while they run, in the Pod's log, and in the bucket after it."""

from __future__ import annotations

import asyncio

import pytest
from chaos import Chaos, is_ready, run
from gates import Gate
from namespaces import Place

import shoal

HERE = shoal.Deployment()


async def test_output_streams_and_outlives_its_pod(
    user: Place, chaos: Chaos, gate: Gate, capfd: pytest.CaptureFixture[str]
) -> None:
    wait = gate.wait

    def loud(item: int) -> int:
        import os
        import sys

        print(f"hello from {item}")
        print(f"a word of warning from {item}", file=sys.stderr)
        os.system(f"echo a program of {item}")
        wait()
        return item

    host = user.host()
    waiting = asyncio.create_task(
        shoal.run_map(loud, range(3), host, None, HERE, 3, logs=True, name="loud")
    )
    seen = ""
    async with asyncio.timeout(60):  # while the tasks wait, their output is here already
        while not all(f"[task {item}] hello from {item}\n" in seen for item in range(3)):
            await asyncio.sleep(0.1)
            seen += capfd.readouterr().out
    assert not waiting.done()
    # a kubelet may tell of a Pod later than the Pod speaks
    running = await user.until_pods(lambda pods: all(map(is_ready, pods)))
    for pod in running:
        words = ("logs", "-n", user.namespace, pod["metadata"]["name"])
        assert "hello from " in await run("kubectl", *words)
    assert "[task " not in await shoal.logs("loud", host, task=1)
    await gate.open()
    assert await waiting == [0, 1, 2]
    for pod in await user.pods():
        await chaos.delete_pod(pod)
    await user.until_pods(lambda pods: not pods)

    whole = await shoal.logs("loud", host)
    for item in range(3):
        for line in (f"hello from {item}", f"a word of warning from {item}"):
            assert whole.count(f"[task {item}] {line}\n") == 1
    one = await shoal.logs("loud", host, task=1)
    assert sorted(one.splitlines()) == [
        "a program of 1",
        "a word of warning from 1",
        "hello from 1",
    ]
    assert "[task" not in one


async def test_each_attempt_has_its_own_output(user: Place) -> None:
    def broken(item: int) -> None:
        print(f"trying {item}")
        raise ValueError(item)

    host = user.host()
    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(
            broken, range(2), host, None, HERE, 1, max_num_task_attempts=2, name="tries"
        )
    assert [task.attempt for task in caught.value.failed] == [2, 2]
    assert await shoal.logs("tries", host, task=1, attempt=1) == "trying 1\n"
    assert await shoal.logs("tries", host, task=1, attempt=2) == "trying 1\n"
    assert "[task 1, attempt 2] trying 1\n" in await shoal.logs("tries", host)


async def test_a_follower_reads_to_the_end(user: Place, gate: Gate) -> None:
    wait = gate.wait

    def loud() -> None:
        print("before")
        wait()
        print("after")

    host = user.host()
    handle = await shoal.submit_function(loud, host, None, HERE, name="followed")
    following = asyncio.create_task(shoal.logs("followed", host, follow=True))
    async with asyncio.timeout(60):
        while await handle.logs() != "before\n":
            await asyncio.sleep(0.2)
        assert not following.done()
        await gate.open()
        assert await following == "before\nafter\n"
