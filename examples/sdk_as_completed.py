"""Results as they come, in any order: python examples/sdk_as_completed.py [--local]."""

import asyncio
import hashlib
import sys

import shoal


def mined(block: int) -> tuple[int, str]:
    """Find the first number whose digest with the block begins with four zeros."""
    number = 0
    while True:
        digest = hashlib.sha256(f"{block} {number}".encode()).hexdigest()
        if digest.startswith("0000"):
            return number, digest
        number += 1


async def main() -> None:
    host = shoal.Local() if "--local" in sys.argv else shoal.Kubernetes()
    async for task in shoal.run_map_as_completed(mined, range(8), host, num_concurrent_tasks=2):
        if task.is_success:
            number, digest = task.result_or_raise()
            print(f"block {task.task_id}: {number} -> {digest[:12]}...")
        else:
            print(f"block {task.task_id}: {task.state}")


if __name__ == "__main__":
    asyncio.run(main())
