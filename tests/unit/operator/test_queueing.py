"""One reconcile at a time for each parent; what comes meanwhile is one more."""

from __future__ import annotations

import asyncio

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
    await asyncio.sleep(0.01)
    assert work.most == 2
    work.gate.set()
    await until(lambda: sorted(work.calls) == list("abcd"), queue)


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


async def test_of_two_times_the_earlier_holds() -> None:
    work = Recorder()
    work.gate.set()
    queue: DirtyQueue[str] = DirtyQueue(work, now=lambda: 100.0)
    queue.open()
    queue.wake("a", 100.001)
    queue.wake("a", 10_000.0)
    await until(lambda: work.calls == ["a"], queue)


async def test_a_forgotten_parent_is_not_woken() -> None:
    work = Recorder()
    work.gate.set()
    queue: DirtyQueue[str] = DirtyQueue(work, now=lambda: 0.0)
    queue.open()
    queue.wake("a", 0.001)
    queue.forget("a")
    queue.mark("b")
    await until(lambda: work.calls == ["b"], queue)
    await queue.close()
