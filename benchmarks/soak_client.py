"""A caller of the soak that is going to be killed: submits a map, says so, and waits for it."""

from __future__ import annotations

import asyncio
import sys
import time

import shoal


async def main(name: str, namespace: str) -> None:
    host = shoal.Kubernetes(kubernetes_namespace=namespace)
    tasks = shoal.run_map_as_completed(
        lambda item: (time.sleep(0.03), item * item)[1],
        range(100),
        host,
        shoal.Resources(logical_cpu=0.05, memory_gb=0.125),
        shoal.Deployment(),
        num_concurrent_tasks=2,
        max_num_task_attempts=3,
        name=name,
    )
    await tasks
    print("submitted", flush=True)
    async for task in tasks:
        task.result_or_raise()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
