"""A process that has loaded the product with points, and forks one life after the other.

Loading takes a second, a fork some milliseconds. Orders come on the standard input and answers go
to the standard output, one JSON object a line: `{"pid": n}` when a life has begun, `{"status": n}`
(as `os.waitstatus_to_exitcode` gives it) when it has ended. When the input ends, so does all.

    python -m faults.mother dispatcher|operator [LISTENER]
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback
from typing import Any

from . import points, trigger

KINDS = {
    "dispatcher": (points.DISPATCHER, "faults.dispatcher_life"),
    "operator": (points.OPERATOR, "faults.operator_life"),
}


def main() -> None:
    """Serve until the input ends."""
    names, module = KINDS[sys.argv[1]]
    points.install(names)
    life = importlib.import_module(module)
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    signal.set_wakeup_fd(wake_out)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    say({"ready": True})
    while line := sys.stdin.buffer.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            begin(life, order)
        say({"pid": pid})
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            ready, _, _ = select.select([wake_in, sys.stdin.buffer], [], [])
            if wake_in in ready:
                os.read(wake_in, 1 << 10)
            else:  # nobody speaks while a life lasts: the input has ended
                os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        say({"status": os.waitstatus_to_exitcode(status)})


def begin(life: Any, order: dict[str, Any]) -> None:
    """Be a life: never return."""
    code = 70
    try:
        null, log = (
            os.open(os.devnull, os.O_RDONLY),
            os.open(order["log"], os.O_WRONLY | os.O_APPEND),
        )
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.signal(signal.SIGUSR1, lambda *_: show(life))
        os.environ.update(order.get("environment", {}))
        trigger.arm(
            order["record"],
            order["armed"],
            later=order.get("later", ()),
            later_seconds=order.get("later_seconds", 0.0),
            nth=order.get("nth", 1),
        )
        code = life.live(order)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def show(life: Any) -> None:
    """Write to the log how this life stands, and where each of its tasks waits (SIGUSR1)."""
    print(life.describe(), file=sys.stderr)
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


def say(message: dict[str, Any]) -> None:
    """Answer."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
