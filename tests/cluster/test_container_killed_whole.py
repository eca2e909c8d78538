"""Agent and child die at once, as the kernel does it to a whole cgroup: nothing is lost.

The task that was running stands in the container's termination message, so that the right one is
charged although nobody is left to tell.
"""

from __future__ import annotations

from typing import Any

from chaos import Chaos
from gates import Gate
from ledgers import check_all_once, read
from namespaces import Place

import shoal
from shoal.errors import RunMapTasksFailedException

HERE = shoal.Deployment()


async def one_worker(place: Place) -> dict[str, Any]:
    (pod,) = await place.until_pods(
        lambda pods: len(pods) == 1 and pods[0]["status"].get("phase") == "Running"
    )
    return dict(pod)


async def test_a_worker_killed_whole_is_replaced_and_the_running_task_is_done(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    wait = gate.wait

    def square(item: int) -> int:
        if item == 30:
            wait()
        return item * item

    handle = await shoal.submit_map(square, range(60), user.host(), None, HERE, 1, name="whole")
    await user.until("MapJob", "whole", lambda s: s.get("succeeded", 0) >= 30)
    first = await one_worker(user)
    await chaos.kill_container(first)
    await gate.open()
    assert await handle.result() == [item * item for item in range(60)]
    book = await check_all_once(user, "whole", [item * item for item in range(60)])
    assert [(charge.index, charge.kind) for charge in book.charges] == [(30, "disruption")]


async def test_a_container_that_dies_whole_for_want_of_memory_charges_the_running_task(
    user: Place, chaos: Chaos, gate: Gate
) -> None:
    wait = gate.wait

    def greedy(item: int) -> int:
        if item == 3:
            import subprocess
            import sys

            eat = "x = bytearray(1 << 30); x[::4096] = b'x' * len(x[::4096])"
            subprocess.run([sys.executable, "-c", eat], check=False)  # the kernel kills it ...
            wait()  # ... and then all the others
        return item

    resources = shoal.Resources(logical_cpu=0.1, memory_gb=0.25)
    handle = await shoal.submit_map(greedy, range(8), user.host(), resources, HERE, 1, name="whole")
    await user.until("MapJob", "whole", lambda s: s.get("succeeded", 0) >= 3)
    pod = await one_worker(user)
    await oom_was_seen(pod)
    await chaos.kill_container(pod)
    try:
        await handle.result()
    except RunMapTasksFailedException as failed:
        assert failed.results == [0, 1, 2, None, 4, 5, 6, 7]
        assert [(task.task_id, task.state) for task in failed.failed] == [(3, "OUT_OF_MEMORY")]
    else:
        raise AssertionError("a task that was killed for want of memory has a result")
    book = await read(user, (await user.get("MapJob", "whole"))["status"])
    assert sorted(record.task for record in book.records) == list(range(8))
    assert book.charges == []


async def oom_was_seen(pod: dict[str, Any]) -> None:
    """Wait until the kernel has killed a process of the Pod for want of memory."""
    import asyncio

    from chaos import run

    meta = pod["metadata"]
    code = (
        "import time, re\n"
        "while True:\n"
        " for path in ('memory.events', 'memory/memory.oom_control'):\n"
        "  try: text = open('/sys/fs/cgroup/' + path).read()\n"
        "  except OSError: continue\n"
        "  if re.search(r'^oom_kill [1-9]', text, re.M): raise SystemExit\n"
        " time.sleep(0.05)\n"
    )
    async with asyncio.timeout(30):
        words = ("exec", "-n", meta["namespace"], meta["name"], "--", "python", "-c", code)
        await run("kubectl", *words)
