"""What becomes of a run whose caller stops waiting for it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from shoal.errors import NoOperator, ShoalException
from shoal.machinery import Run

T = TypeVar("T")

_log = logging.getLogger("shoal")

SECONDS = 5.0
"""How long the last words to a run may take."""
INTERRUPTIONS = 3
"""How often they are said again when somebody interrupts them, too."""
KEEP_SECONDS = 60
"""How long a run that was cancelled with its caller can still be looked at."""


async def guarded(run: Run, waiting: Coroutine[Any, Any, T], *, detach: bool) -> T:
    """Wait; if the caller is cancelled, cancel the run, or with `detach` let it go on.

    A run that no operator has taken up is deleted.
    """
    try:
        return await waiting
    except asyncio.CancelledError:
        await asyncio.shield(_interrupted(run, detach=detach))
        raise
    except NoOperator:
        await last_words(run, delete=True)
        raise


async def guarded_each(
    run: Run, items: AsyncGenerator[T, None], *, detach: bool
) -> AsyncGenerator[T, None]:
    """Yield; do as `guarded` if the reader stops in the middle (break, error, Ctrl-C)."""
    ended = False
    try:
        async with aclosing(items):
            async for item in items:
                yield item
                del item  # it may be large: it goes when its reader lets go of it
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
            await asyncio.shield(_interrupted(run, detach=detach))


async def _interrupted(run: Run, *, detach: bool) -> None:
    if detach:
        how = f"shoal.attach({run.name!r}, host) follows it"
        goes_on = "without you" if run.outlives_process else "as long as this process lives"
        print(f"shoal: {run.full_name} goes on {goes_on}; {how}", file=sys.stderr)
    else:
        await last_words(run, delete=False)


async def last_words(run: Run, *, delete: bool) -> None:
    """Cancel or delete the run; that it fails is told, but is not the news.

    Being cancelled does not keep it from that: `asyncio.run` cancels every task at its end, and
    then waits for them.
    """
    words = "deleted" if delete else "cancelled"
    for _ in range(INTERRUPTIONS):
        try:
            async with asyncio.timeout(SECONDS):
                await (run.delete() if delete else run.cancel(keep_seconds=KEEP_SECONDS))
            return
        except asyncio.CancelledError:
            continue
        except (ShoalException, TimeoutError, OSError) as error:
            why = str(error) or f"no answer within {SECONDS:.0f} s"
            _log.warning("%s could not be %s, and may go on: %s", run.full_name, words, why)
            return
