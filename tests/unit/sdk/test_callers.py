"""A warning names the user's line, whichever way the call came."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import shoal
from shoal import blocking

HOST = shoal.Local("/does/not/matter")
SIZE = shoal.Resources(memory_gb=1)
ONCE = {"retry_with_more_memory": True}


def arun() -> None:
    asyncio.run(shoal.run_map(len, [], HOST, SIZE, **ONCE))  # here


def awaited() -> None:
    async def main() -> None:
        await shoal.run_map(len, [], HOST, SIZE, **ONCE)  # here

    asyncio.run(main())


def a_task() -> None:
    async def main() -> None:
        await asyncio.create_task(shoal.run_map(len, [], HOST, SIZE, **ONCE))

    asyncio.run(main())  # here


def blocked() -> None:
    blocking.run_map(len, [], HOST, SIZE, **ONCE)  # here


def iterated() -> None:
    list(blocking.run_map_as_completed(len, [], HOST, SIZE, **ONCE))  # here


def blocked_in_a_loop() -> None:
    async def main() -> None:
        blocking.run_map(len, [], HOST, SIZE, **ONCE)  # here

    asyncio.run(main())


@pytest.mark.parametrize(
    "call",
    [arun, awaited, a_task, blocked, iterated, blocked_in_a_loop],
    ids=lambda call: call.__name__,
)
def test_the_line_is_the_users(call: Callable[[], Any]) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    [warning] = found
    assert warning.category is UserWarning
    assert warning.filename == __file__
    with open(__file__, encoding="utf-8") as source:
        assert source.readlines()[warning.lineno - 1].rstrip().endswith("# here")
