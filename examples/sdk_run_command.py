"""Commands: python examples/sdk_run_command.py [--local].

The output appears here while the command runs. An exit code other than 0 is an exception.
"""

import asyncio
import sys

import shoal


async def main() -> None:
    host = shoal.Local() if "--local" in sys.argv else shoal.Kubernetes()
    completion = await shoal.run_command("python -m calendar 2026 1", host)
    print(f"exit code {completion.return_code}")
    try:
        await shoal.run_command(["sh", "-c", "echo no such luck >&2; exit 3"], host)
    except shoal.CommandFailedException as error:
        print(f"exit code {error.return_code}, and its last words: {error.last_lines.strip()}")


if __name__ == "__main__":
    asyncio.run(main())
