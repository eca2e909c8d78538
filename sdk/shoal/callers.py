"""Which line of the user's a call comes from, for warnings.

That is the first line outward that is neither ours nor the event loop's. A call of
`shoal.blocking` runs in a thread that has no such line, so it takes its own along.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from contextvars import Context, ContextVar
from typing import Any, NamedTuple

_NOT_THE_USERS = tuple(
    os.path.dirname(path) + os.sep for path in (__file__, asyncio.__file__) if path
)


class Line(NamedTuple):
    """A line of code, its module, and which warnings were given for that."""

    file: str
    number: int
    module: str
    given: dict[Any, Any]


_brought: ContextVar[Line | None] = ContextVar("the caller's line", default=None)


def line() -> Line | None:
    """Return the user's line that led here, None if there is none."""
    frame = sys._getframe()
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            module = frame.f_globals.get("__name__", "")
            if module == "threading":
                break  # the bottom of a thread of ours
            given = frame.f_globals.setdefault("__warningregistry__", {})
            return Line(frame.f_code.co_filename, frame.f_lineno, module, given)
        frame = frame.f_back  # type: ignore[assignment]
    return _brought.get()


def bring_along(context: Context) -> None:
    """Let what runs in `context` know the user's line that led here."""
    context.run(_brought.set, line())


def warn(message: str) -> None:
    """Give a UserWarning at the user's line."""
    found = line()
    if found is None:
        warnings.warn(message, stacklevel=2)
    else:
        file, number, module, given = found
        warnings.warn_explicit(message, UserWarning, file, number, module, given)
