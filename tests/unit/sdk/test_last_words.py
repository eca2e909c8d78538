"""What is said to a run that its caller leaves is said, also when the loop or the process ends."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal.errors import ApiUnreachable
from shoal.waiting import guarded, guarded_each

Main = Callable[["Slow"], Coroutine[Any, Any, None]]


class Slow:
    """A run whose cancellation takes several rounds of the loop, as over a network."""

    name, full_name = "x", "mapjobs.shoal.dev/x"

    def __init__(self, error: Exception | None = None) -> None:
        self.is_cancelled, self.error = False, error

    async def cancel(self, *, keep_seconds: int | None = None) -> None:
        await asyncio.sleep(0.1)
        if self.error is not None:
            raise self.error
        self.is_cancelled = True


async def endless() -> AsyncGenerator[int, None]:
    while True:
        yield 1
        await asyncio.sleep(0)


async def a_break_at_the_end(run: Slow) -> None:
    async for _ in guarded_each(run, endless(), detach=False):  # type: ignore[arg-type]
        break


async def a_break_and_an_end_soon_after(run: Slow) -> None:
    await a_break_at_the_end(run)
    await asyncio.sleep(0.02)


async def a_break_out_of_a_generator_around_it(run: Slow) -> None:
    async def around() -> AsyncGenerator[int, None]:
        async with aclosing(guarded_each(run, endless(), detach=False)) as items:  # type: ignore[arg-type]
            async for item in items:
                yield item

    async for _ in around():
        break
    await asyncio.sleep(0.02)


async def an_error_in_the_loop(run: Slow) -> None:
    try:
        async for _ in guarded_each(run, endless(), detach=False):  # type: ignore[arg-type]
            raise KeyError
    except KeyError:
        await asyncio.sleep(0.02)


async def a_cancelled_task_that_nobody_waits_for(run: Slow) -> None:
    task = asyncio.create_task(guarded(run, asyncio.sleep(600), detach=False))  # type: ignore[arg-type]
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.sleep(0.02)


async def a_task_in_the_background(run: Slow) -> None:
    _ = asyncio.create_task(guarded(run, asyncio.sleep(600), detach=False))  # type: ignore[arg-type]  # noqa: RUF006
    await asyncio.sleep(0.02)


async def a_timeout(run: Slow) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await guarded(run, asyncio.sleep(600), detach=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "main",
    [
        a_break_at_the_end,
        a_break_and_an_end_soon_after,
        a_break_out_of_a_generator_around_it,
        an_error_in_the_loop,
        a_cancelled_task_that_nobody_waits_for,
        a_task_in_the_background,
        a_timeout,
    ],
    ids=lambda main: main.__name__,
)
def test_the_run_is_cancelled_although_the_loop_ends(main: Main) -> None:
    run = Slow()
    asyncio.run(main(run))
    assert run.is_cancelled


async def test_a_run_that_could_not_be_cancelled_is_told(caplog: pytest.LogCaptureFixture) -> None:
    run = Slow(ApiUnreachable(0, "Unreachable", "the API does not answer"))
    with caplog.at_level(logging.WARNING, "shoal"):
        await a_timeout(run)
    assert [record.getMessage() for record in caplog.records] == [
        "mapjobs.shoal.dev/x could not be cancelled, and may go on: the API does not answer"
    ]


@pytest.mark.parametrize("rounds", range(5))
async def test_who_is_cancelled_just_when_something_changes_is_cancelled(
    local: shoal.Local, here: shoal.Deployment, rounds: int
) -> None:
    handle = await shoal.submit_function(time.sleep, local, None, here, [600])
    try:
        waiting = asyncio.create_task(handle.wait())
        changes = handle._run._loops  # type: ignore[attr-defined]
        while not changes:
            await asyncio.sleep(0)
        for _ in range(10):  # until it waits
            await asyncio.sleep(0)
        next(iter(changes)).set()
        for _ in range(rounds):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=10)
        assert waiting.cancelled()
    finally:
        await handle.delete()


def test_an_iterator_that_is_still_held_when_the_process_ends(tmp_path: Path) -> None:
    program = f"""
        import time, shoal
        from shoal import blocking
        HOST = shoal.Local({str(tmp_path / "bucket")!r})
        def work(seconds):
            time.sleep(seconds)
        if __name__ == "__main__":
            held = iter(blocking.run_map_as_completed(
                work, [0, 600], HOST, None, shoal.Deployment(), 2, name="held"
            ))
            print(next(held).task_id)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    about = json.loads((tmp_path / "bucket" / "runs" / "held.json").read_text())
    assert about["status"]["phase"] == "Cancelled"
