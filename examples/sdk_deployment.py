"""Where the code runs: python examples/sdk_deployment.py [--local].

`Deployment.mirror_local` sends the modules on sys.path (this folder, since the script is in it)
and the files that globs name. It is also what happens when no deployment is given.
"""

import asyncio
import os
import sys

import primes

import shoal


async def main() -> None:
    host = shoal.Local() if "--local" in sys.argv else shoal.Kubernetes()
    deployment = await shoal.Deployment.mirror_local(
        globs="*.yaml", environment_variables={"GREETING": "hello"}
    )
    print(await shoal.run_function(primes.greeting, host, deployment=deployment))
    print(
        await shoal.run_map(
            primes.first_line,
            ["function.yaml", "map.yaml"],
            host,
            deployment=deployment,
            num_concurrent_tasks=1,
        )
    )
    if isinstance(host, shoal.Kubernetes):  # Local() runs no containers
        image = shoal.Deployment.container_image("docker.io/library/python", "3.11-slim")
        await shoal.run_command(["python", "--version"], host, deployment=image)


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # globs are relative to it
    asyncio.run(main())
