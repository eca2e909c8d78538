"""What is being done, said on stderr while it is done, with how long it took.

stdout belongs to what a command prints for a program to read (`env`, `bin`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say `text` now, and how long the block took at its end; a failure is said by its error."""
    started = time.monotonic()
    say(f"  {text} ...")
    try:
        yield
    except BaseException:
        say(f"  {text}: failed after {time.monotonic() - started:.1f} s")
        raise
    say(f"  {text}: {time.monotonic() - started:.1f} s")
