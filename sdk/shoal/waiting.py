"""What becomes of a run whose caller stops waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from shoal.errors import NoOperator, ShoalException
from shoal.machinery import Run

T = TypeVar("T")

SECONDS = 5.0
"""How long the last words to a run may take."""


async def guarded(run: Run, waiting: Coroutine[Any, Any, T]) -> T:
    """Wait; cancel the run if the caller is cancelled, delete it if no operator is there."""
    try:
        return await waiting
    except asyncio.CancelledError:
        await asyncio.shield(last_words(run, delete=False))
        raise
    except NoOperator:
        await last_words(run, delete=True)
        raise


async def guarded_each(run: Run, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield; cancel the run if its reader stops in the middle (break, error, Ctrl-C)."""
    ended = False
    try:
        async with aclosing(items):
            async for item in items:
                yield item
        ended = True
    except NoOperator:
        ended = True
        await last_words(run, delete=True)
        raise
    except ShoalException:
        ended = True
        raise
    finally:
        if not ended:
            await asyncio.shield(last_words(run, delete=False))


async def last_words(run: Run, *, delete: bool) -> None:
    """Cancel or delete the run; what fails here is not the news."""
    try:
        async with asyncio.timeout(SECONDS):
            await (run.delete() if delete else run.cancel())
    except (ShoalException, TimeoutError, OSError):
        return
