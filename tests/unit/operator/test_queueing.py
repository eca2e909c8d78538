"""One reconcile at a time for each parent; what comes meanwhile is one more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from shoal_operator.queueing import DirtyQueue


class Recorder:
    def __init__(self, answer: float = 0.0) -> None:
        self.calls: list[str] = []
        self.running = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.answer = answer
        self.failures = 0

    async def __call__(self, key: str) -> float:
        self.calls.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        if self.failures:
            self.failures -= 1
            raise OSError("broken")
        return self.answer


class Clock:
    """Timers that ring when the test says so."""

    def __init__(self) -> None:
        self._timers: list[tuple[float, Timer]] = []

    def call_later(self, delay: float, action: Callable[..., None], *args: object) -> Timer:
        timer = Timer(action, args)
        self._timers.append((delay, timer))
        return timer

    def waiting(self) -> list[float]:
        return [delay for delay, timer in self._timers if not timer.cancelled]

    def ring(self, until: float) -> None:
        due = [(delay, timer) for delay, timer in self._timers if delay <= until]
        self._timers = [entry for entry in self._timers if entry not in due]
        for _, timer in due:
            if not timer.cancelled:
                timer.action(*timer.args)


class Timer:
    def __init__(self, action: Callable[..., None], args: tuple[object, ...]) -> None:
        self.action, self.args, self.cancelled = action, args, False

    def cancel(self) -> None:
        self.cancelled = True


async def until(done: object, queue: DirtyQueue[str]) -> None:
    async with asyncio.timeout(5):
        while not done() or queue.depth:  # type: ignore[operator]
            await asyncio.sleep(0.001)


async def test_marks_before_it_opens_are_kept() -> None:
    work = Recorder()
    work.gate.set()
    queue: DirtyQueue[str] = DirtyQueue(work)
    queue.mark("a")
    queue.mark("a")
    assert work.calls == []
    queue.open()
    await until(lambda: work.calls == ["a"], queue)


async def test_marks_while_it_runs_are_one_more_run() -> None:
    work = Recorder()
    queue: DirtyQueue[str] = DirtyQueue(work)
    queue.open()
    queue.mark("a")
    await asyncio.sleep(0)
    for _ in range(5):
        queue.mark("a")
    work.gate.set()
    await until(lambda: work.calls == ["a", "a"], queue)
    assert work.most == 1


async def test_different_parents_run_together_up_to_the_limit() -> None:
    work = Recorder()
    queue: DirtyQueue[str] = DirtyQueue(work, at_once=2)
    queue.open()
    for key in "abcd":
        queue.mark(key)
    async with asyncio.timeout(5):
        while work.running < 2:
            await asyncio.sleep(0)
    work.gate.set()
    await until(lambda: sorted(work.calls) == list("abcd"), queue)
    assert work.most == 2


async def test_a_failure_is_tried_again() -> None:
    work = Recorder()
    work.gate.set()
    work.failures = 1
    now = [0.0]
    queue: DirtyQueue[str] = DirtyQueue(work, now=lambda: now[0])
    queue.open()
    queue.mark("a")
    await until(lambda: queue.failed == 1, queue)
    queue.wake("a", now[0])  # the pause is over
    await until(lambda: work.calls == ["a", "a"], queue)
    assert queue.reconciled == 1


@pytest.mark.parametrize("times", [(101.0, 10_000.0), (10_000.0, 101.0)])
async def test_of_two_times_the_earlier_holds(times: tuple[float, float]) -> None:
    work, clock = Recorder(), Clock()
    work.gate.set()
    queue: DirtyQueue[str] = DirtyQueue(work, now=lambda: 100.0, call_later=clock.call_later)
    queue.open()
    for at in times:
        queue.wake("a", at)
    assert clock.waiting() == [1.0]
    clock.ring(1.0)
    await until(lambda: work.calls == ["a"], queue)
    clock.ring(10_000.0)
    await until(lambda: True, queue)
    assert work.calls == ["a"]


async def test_a_forgotten_parent_is_not_woken() -> None:
    work, clock = Recorder(), Clock()
    work.gate.set()
    queue: DirtyQueue[str] = DirtyQueue(work, now=lambda: 100.0, call_later=clock.call_later)
    queue.open()
    queue.wake("a", 101.0)
    queue.wake("b", 101.0)
    queue.forget("a")
    clock.ring(10.0)
    await until(lambda: bool(work.calls), queue)
    assert work.calls == ["b"]
