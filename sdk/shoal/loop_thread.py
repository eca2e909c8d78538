"""An event loop in a thread of its own, for `shoal.blocking`.

It works where another loop is running already, as in a notebook's cells. What is printed there
appears where the caller is, since the caller's context (in which notebooks keep the current cell)
goes along. The thread ends with the process.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

from shoal import callers

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_iterated: set[AsyncGenerator[Any, None]] = set()

INTERRUPT_SECONDS = 10.0
"""How long an interrupted call may take to cancel what it waits for."""
STOP_SECONDS = 6.0
"""How long the end of the process waits for what is still said."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine and return what it returns; Ctrl-C cancels it."""
    from shoal.arguments import refuse_in_an_import

    try:
        refuse_in_an_import()
    except BaseException:
        work.close()
        raise
    loop = _running()
    if threading.current_thread() is _thread:
        work.close()
        raise RuntimeError("shoal.blocking was called from its own event loop: use `await`")
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    context = contextvars.copy_context()
    callers.bring_along(context)
    tasks: list[asyncio.Task[None]] = []

    async def pass_on() -> None:
        try:
            future.set_result(await work)
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise

    def start() -> None:
        tasks.append(loop.create_task(pass_on(), context=context))

    loop.call_soon_threadsafe(start)
    try:
        return future.result()
    except BaseException:
        if not future.done():
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            concurrent.futures.wait([future], INTERRUPT_SECONDS)
        raise


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yield what the asynchronous generator yields; stopping early closes it."""
    _iterated.add(items)
    try:
        while True:
            try:
                yield run(_next(items))
            except StopAsyncIteration:
                return
    finally:
        if items in _iterated:  # else `stop` has closed it
            _iterated.discard(items)
            run(items.aclose())


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


def _running() -> asyncio.AbstractEventLoop:
    global _loop, _thread
    with _lock:
        if _loop is None or _thread is None or not _thread.is_alive():
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="shoal", daemon=True)
            _thread.start()
            atexit.register(stop)
        return _loop


def stop() -> None:
    """End the loop: who still waits on it has his last words, and its connections are closed.

    Called when the process ends, and by who ends before that what those words are said to.
    """
    loop, thread = _loop, _thread
    if loop is None or thread is None or not thread.is_alive():
        return  # ended already; or the child of a fork, which has the loop, but not the thread
    try:
        asyncio.run_coroutine_threadsafe(_wind_up(), loop).result(STOP_SECONDS)
    except concurrent.futures.TimeoutError:
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(STOP_SECONDS)
    loop.close()


async def _wind_up() -> None:
    """Cancel what still runs (watches that nobody waits for any more), then close generators.

    First those that were iterated: they close those that they iterate, in their order.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    while _iterated:
        await _iterated.pop().aclose()
    await asyncio.get_running_loop().shutdown_asyncgens()
