"""One call: python examples/sdk_run_function.py [--local].

A lambda, a closure, a method or a name all work. What the function prints appears here while it
runs, and what it raises is raised here, with the remote traceback.
"""

import asyncio
import platform
import sys

import shoal


def where() -> str:
    print("running")
    return f"Python {platform.python_version()} on {platform.node()}"


def divide(a: int, b: int) -> float:
    return a / b


async def main() -> None:
    host = shoal.Local() if "--local" in sys.argv else shoal.Kubernetes()
    print(await shoal.run_function(where, host))
    print(await shoal.run_function(lambda: sum(range(1_000_000)), host))
    print(await shoal.run_function("math.comb", host, args=[52, 5]))
    try:
        await shoal.run_function(divide, host, kwargs={"a": 1, "b": 0})
    except shoal.TaskException as error:
        print(f"as expected: {error.type}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main())
