"""Shoal's own figures, on the cluster, from a client outside of it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import shoal
from shoal import active, arguments
from shoal.packages import packages_for

#: Nothing of this machine's code is needed; the deployment is the operator's default image.
PLAIN = shoal.Deployment()


async def _median(times: int, call: Callable[[], Awaitable[object]]) -> float:
    await call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def warm_call(host: shoal.Host, times: int) -> float:
    """Return median seconds of one call on a warm worker."""
    return await _median(times, lambda: shoal.run_function(lambda: 1, host, deployment=PLAIN))


async def cold_call(times: int) -> float:
    """Return median seconds of one call with a Pod of its own."""
    host = shoal.Kubernetes(reusable_pods=False)
    return await _median(times, lambda: shoal.run_function(lambda: 1, host, deployment=PLAIN))


async def no_ops(host: shoal.Host, count: int, times: int) -> float:
    """Return median seconds of a map of `count` no-ops on two warm workers."""
    items = range(count)

    async def call() -> None:
        results = await shoal.run_map(
            lambda item: item, items, host, deployment=PLAIN, num_concurrent_tasks=2
        )
        if list(results) != list(items):
            raise AssertionError("the map's results are wrong")

    return await _median(times, call)


async def first_result(host: shoal.Host, times: int) -> float:
    """Return median seconds from a function's return until the client has its result."""

    def task(_: int) -> float:
        import time

        time.sleep(0.05)
        return time.time()

    lags = []
    for _ in range(times):
        tasks = shoal.run_map_as_completed(
            task, range(20), host, deployment=PLAIN, num_concurrent_tasks=2
        )
        async for result in tasks:
            lags.append(time.time() - result.result_or_raise())
    return statistics.median(lags)


async def found_again(times: int) -> float:
    """Return median seconds until a call without a deployment knows again what is active here.

    The interpreter is that of the benchmark, with all that its development needs.
    """
    before = os.environ.get(active.SWITCH)
    os.environ[active.SWITCH] = "true"
    try:

        async def look() -> None:
            draft = arguments.command_call(
                "true", shoal.Local(), None, None, None, None, None, None, arguments.Tries()
            )
            packages = packages_for((await draft.call()).deployment)
            if packages is None or len(packages.requirements) < 50:
                raise AssertionError(f"these are not the packages that are active: {packages}")

        return await _median(times, look)
    finally:
        os.environ.pop(active.SWITCH)
        if before is not None:
            os.environ[active.SWITCH] = before


def import_time(times: int) -> float:
    """Return median seconds of `import shoal`, beyond what Python needs to start."""

    def run(statement: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - began

    return statistics.median(run("import shoal") - run("pass") for _ in range(times))
