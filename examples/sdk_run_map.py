"""One function over many items: python examples/sdk_run_map.py [--local].

The results come in the order of the items. A progress bar shows up in terminals and notebooks.
"""

import asyncio
import sys

import shoal


def collatz(start: int) -> int:
    """Count the steps from `start` to 1."""
    steps = 0
    while start != 1:
        start = start // 2 if start % 2 == 0 else 3 * start + 1
        steps += 1
    return steps


def picky(number: int) -> int:
    if number == 13:
        raise ValueError("not this one")
    return number * 2


async def main() -> None:
    host = shoal.Local() if "--local" in sys.argv else shoal.Kubernetes()
    steps = await shoal.run_map(
        collatz, range(1, 2001), host, shoal.Resources(0.25, 0.25), num_concurrent_tasks=2
    )
    longest = max(range(len(steps)), key=steps.__getitem__)
    print(f"{longest + 1} takes {steps[longest]} steps")

    try:
        await shoal.run_map(picky, range(10, 16), host, num_concurrent_tasks=2)
    except shoal.RunMapTasksFailedException as error:
        print(f"task {error.failed[0].task_id} failed; the others: {error.results}")


if __name__ == "__main__":
    asyncio.run(main())
