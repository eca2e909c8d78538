"""Submit now, look later: python examples/sdk_submit_attach.py [--local].

The name is all that another process needs, on this machine or on another one.
"""

import asyncio
import sys

import shoal


def slow_square(number: int) -> int:
    import time

    time.sleep(0.2)
    return number * number


async def main() -> None:
    host = shoal.Local() if "--local" in sys.argv else shoal.Kubernetes()
    submitted = await shoal.submit_map(slow_square, range(10), host, num_concurrent_tasks=2)
    print(f"submitted {submitted.full_name}")

    job = await shoal.attach(submitted.name, host)  # as another process would
    status = await job.status()
    print(f"{status.phase}, {status.progress}")
    print(await job.result())
    status = await job.status()
    print(f"{status.phase}, {status.progress}")
    await job.delete()

    endless = await shoal.submit_command(["sleep", "600"], host)
    await endless.cancel()
    status = await endless.wait()
    print(f"{endless.full_name}: {status.phase}")
    await endless.delete()


if __name__ == "__main__":
    asyncio.run(main())
