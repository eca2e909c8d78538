"""Without async: python examples/sdk_blocking.py [--local].

`shoal.blocking` has the same functions for code that has no event loop.
"""

import sys

from shoal import Kubernetes, Local, blocking


def main() -> None:
    host = Local() if "--local" in sys.argv else Kubernetes()
    print(blocking.run_map(len, ["one", "three", "eleven"], host, num_concurrent_tasks=2))
    for task in blocking.run_map_as_completed(abs, [-1, 2, -3], host, num_concurrent_tasks=2):
        print(task.task_id, task.result)


if __name__ == "__main__":
    main()
