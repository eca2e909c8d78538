"""Functions that do their worst, by name; they travel by value, as a user's own do."""

from __future__ import annotations

import sys
from typing import Any

import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def leaves() -> None:
    import os

    os._exit(3)


def exits() -> None:
    import sys

    sys.exit(0)


def kills_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def crashes() -> None:
    import ctypes

    ctypes.string_at(0)


def interrupts() -> None:
    raise KeyboardInterrupt


def recurses() -> None:
    recurses()


def raises_what_has_no_text() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Silent


def raises_what_only_it_knows() -> None:
    unknown = type("Unknown", (Exception,), {"__module__": "only_there"})
    raise unknown("a word")


def returns_what_can_not_travel() -> Any:
    import threading

    return threading.Lock()


def returns_what_only_it_knows() -> Any:
    import sys
    import types

    module = types.ModuleType("only_there")
    sys.modules["only_there"] = module
    exec("class Known:\n    word = 'x'", module.__dict__)
    return module.Known()  # type: ignore[attr-defined]


def returns_nothing() -> None:
    return None


def forks_many() -> int:
    import os
    import time

    for _ in range(60):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    return 60


def ignores_signals() -> str:
    import os
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGTERM)
    return "still here"


def closes_its_output() -> str:
    import os

    os.close(1)
    os.close(2)
    return "quiet"


def leaves_a_thread() -> str:
    import threading
    import time

    threading.Thread(target=time.sleep, args=[600]).start()
    return "threaded"
