"""Lets events happen, then lets everything heal, and looks at what came of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import virtual_time
from book import Violated, check
from faulty_bucket import Bucket
from scenarios import Case, Event
from simulated_job import SimulatedJob
from simulated_operator import OWNER, OperatorProcess
from simulated_worker import SimulatedWorker

from shoal.dispatch import JobView
from shoal.ledger_reader import LedgerReader
from shoal_operator.pools import Pool, Template

#: Once everything is well, a job ends within so many seconds.
END_SECONDS = 900.0
#: How long a Pod takes to begin, and news of it to arrive, in seconds.
POD_SECONDS = 0.4
NEWS_SECONDS = 0.05


class World:
    """Some jobs, their operator, its workers and their bucket."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.bucket = Bucket(case.bucket, self._created)
        self.workers: list[SimulatedWorker] = []
        self.operator: OperatorProcess | None = None
        self.old: OperatorProcess | None = None
        self.faithful: set[str] = set()
        jobs = [SimulatedJob(n, case.of(n), self.now() + n * case.apart) for n in range(case.jobs)]
        self.jobs = {job.id: job for job in jobs}
        self._context = contextvars.copy_context()
        self._ended = asyncio.Event()
        self._failure: Violated | None = None
        self._pools: dict[int, Pool] = {}
        self._pods = 0
        self._writes_left, self._down = 0, 0.0

    @property
    def finished(self) -> bool:
        """Whether every job's status says that it is over."""
        return all(job.finished for job in self.jobs.values())

    def _job_of(self, key: str) -> SimulatedJob:
        return next(job for job in self.jobs.values() if key.startswith(job.spec.prefix + "/"))

    # what everything stands on

    def now(self) -> float:
        """Virtual time."""
        return asyncio.get_running_loop().time()

    def violated(self, message: str) -> None:
        """Note the first violation; the sequence ends with it."""
        self._failure = self._failure or Violated(message)
        self._ended.set()

    def spawn(self, main: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Begin what goes on beside the operator, whoever it was that asked for it."""
        loop = asyncio.get_running_loop()
        return loop.create_task(self._guarded(main), context=self._context)

    async def _guarded(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await main()
        except Exception as error:
            self.violated(f"{error!r}")

    def _created(self, key: str, raw: bytes) -> None:
        if "/ledger/" in key:
            self._writes_left -= 1
            if not self._writes_left:
                asyncio.get_running_loop().call_soon(self._restart, self._down, "lands")
            try:
                self._job_of(key).book.written(raw)
            except Violated as violated:
                self.violated(str(violated))

    def pool(self, size: int) -> Pool:
        """Return the pool of the workers of a size."""
        if size not in self._pools:
            self._pools[size] = Pool(
                namespace="n",
                template=Template(image="i"),
                owner_kind="Deployment",
                owner_name="d",
                owner_uid="owner",
                max_workers=self.case.max_workers,
                idle_seconds=20.0,
                hash=f"size-{size}",
            )
        return self._pools[size]

    def write_status(self, job: SimulatedJob, view: JobView) -> None:
        """A status is written."""
        job.write_status(view)
        if self.finished:
            self._ended.set()

    # Pods

    def create_pod(self, pool: Pool, seconds: float = POD_SECONDS) -> None:
        """A Pod is created; its container begins a little later."""
        self._pods += 1
        size = next(size for size, one in self._pools.items() if one == pool)
        worker = SimulatedWorker(self, f"w{self._pods}", pool, size)
        self.workers.append(worker)
        asyncio.get_running_loop().call_later(seconds, worker.start)

    def delete_pod(self, uid: str, zombie: float = 0.0) -> None:
        """A Pod is deleted; its process may go on for a while."""
        worker = next((one for one in self.workers if one.uid == uid), None)
        if worker is None or worker.deleting:
            return
        worker.deleting = True
        loop = asyncio.get_running_loop()
        loop.call_later(NEWS_SECONDS, self._tell_gone, uid, {})
        loop.call_later(zombie, self._remove, worker)

    def _remove(self, worker: SimulatedWorker) -> None:
        worker.gone = True
        worker.end(143)
        if worker in self.workers:
            self.workers.remove(worker)

    def container_ended(
        self, worker: SimulatedWorker, code: int, cause: str = "disruption", known: bool = True
    ) -> None:
        """A worker's container ends, by itself or killed."""
        if worker.exit_code is not None or worker.gone:
            return
        running = worker.running
        if cause == "oom" and running is not None:
            self.jobs[running.job].book.failed[running.task, running.attempt] += 1
        worker.end(code)
        told = worker.told
        told["cause"] = cause
        if code and known and running is not None:
            told["running"] = (running.job, running.task)
        elif code:
            told["unknown"] = True
        loop = asyncio.get_running_loop()
        loop.call_later(NEWS_SECONDS, self._tell_gone, worker.uid, told)

    def _tell_gone(self, uid: str, told: dict[str, Any]) -> None:
        for operator in (self.operator, self.old):
            if operator is not None:
                operator.do(operator.dispatcher.worker_gone, uid, "gone", **told)

    def reached_by(self, worker: SimulatedWorker) -> OperatorProcess | None:
        """Return the operator that a worker's connection leads to."""
        operator = self.operator
        if self.old is not None and worker.uid in self.faithful:
            operator = self.old
        return None if operator is None or operator.dead else operator

    # events

    def happens(self, event: tuple[Any, ...]) -> None:
        """Let an event happen."""
        getattr(self, "_" + str(event[0]).replace(" ", "_").replace("-", "_"))(*event[1:])

    def _restart(self, down: float, in_flight: str) -> None:
        self._kill(self.operator, in_flight)
        self.operator = None
        asyncio.get_running_loop().call_later(down, self._start_operator)

    def _restart_at_write(self, count: int, down: float) -> None:
        """Be killed when an entry of the ledger is there, and before anybody knows."""
        self._writes_left, self._down = count, down

    def _kill(self, operator: OperatorProcess | None, in_flight: str = "lost") -> None:
        if operator is None or operator.dead:
            return
        pending = dict(operator.bucket.pending)
        operator.die()
        for key, data in pending.items():
            if in_flight == "lands":
                self.bucket.create(key, data)
            elif in_flight == "late":
                asyncio.get_running_loop().call_later(1.0, self.bucket.create, key, data)

    def _start_operator(self) -> None:
        if self.operator is None and not self.finished:
            self.operator = OperatorProcess(self)

    def _usurp(self, keep: int, seconds: float) -> None:
        """Another operator begins while this one goes on, with some of the workers."""
        if self.operator is None:
            return
        self._kill(self.old)
        self.old, self.operator = self.operator, None
        self.faithful = {one.uid for n, one in enumerate(self.workers) if keep >> n & 1}
        self._start_operator()
        asyncio.get_running_loop().call_later(seconds, self._kill, self.old)

    def _bucket(self, fault: str) -> None:
        self.bucket.faults.append(fault)

    def _bucket_down(self, seconds: float) -> None:
        self.bucket.down_until = self.now() + seconds

    def _worker(self, n: int | str) -> SimulatedWorker | None:
        lives = [one for one in self.workers if one.lives]
        if isinstance(n, int):
            return lives[n % len(lives)] if lives else None
        hands = Counter(task for one in lives for task in one.tasks())
        return next((one for one in lives if any(hands[task] > 1 for task in one.tasks())), None)

    def _lose(self, n: int | str, what: str, part: int) -> None:
        if (worker := self._worker(n)) is not None:
            worker.losses.append((what, part))

    def _cut(self, n: int | str, seconds: float) -> None:
        if (worker := self._worker(n)) is not None:
            worker.cut_until = self.now() + seconds

    def _crash(self, n: int | str, cause: str, known: bool) -> None:
        if (worker := self._worker(n)) is not None:
            self.container_ended(worker, 1, cause, known)

    def _delete(self, n: int | str, zombie: float) -> None:
        if (worker := self._worker(n)) is not None:
            self.delete_pod(worker.uid, zombie)

    def _retire(self, n: int | str) -> None:
        worker, operator = self._worker(n), self.operator
        if worker is not None and operator is not None:
            operator.do(operator.dispatcher.retire, worker.uid)

    def _job(self, n: int) -> SimulatedJob:
        return list(self.jobs.values())[n % len(self.jobs)]

    def _suspend(self, n: int) -> None:
        self._job(n).suspended = True
        self._look()

    def _resume(self, n: int) -> None:
        self._job(n).suspended = False
        self._look()

    def _parallelism(self, n: int, workers: int) -> None:
        self._job(n).parallelism = workers
        self._look()

    def _cancel(self, n: int) -> None:
        job = self._job(n)
        job.cancelled = job.book.cancelled = True
        self._look()

    def _give_up(self, n: int, size: int) -> None:
        job = self._job(n)
        job.book.given_up.add(size)
        if (operator := self.operator) is not None:
            operator.do(operator.dispatcher.give_up, job.id, size, "no room")

    def _fatal(self, n: int) -> None:
        if (worker := self._worker(n)) is not None and worker.known:
            (job,) = worker.known
            self.jobs[job].book.fatal = True
            worker.say_fatal(job)

    def _look(self) -> None:
        if self.operator is not None:
            self.operator.look()

    def _heal(self) -> None:
        """From now on nothing fails."""
        self.bucket.heal()
        self._writes_left = 0
        self._kill(self.old)
        for n in range(len(self.jobs)):
            self._resume(n)
        self._start_operator()
        for worker in self.workers:
            worker.cut_until = 0.0
            worker.losses.clear()

    # one sequence

    async def play(self, events: Sequence[Event]) -> None:
        """Let the events happen; fail if an invariant does not hold."""
        for _ in range(self.case.ready):
            self.create_pod(self.pool(1), seconds=0.0)
        self._start_operator()
        for pause, event in events:
            await self._unless_over(pause)
            if self._ended.is_set():
                break
            self.happens(event)
        await self._unless_over(self.case.rest)
        self._heal()
        await self._unless_over(END_SECONDS)
        if self._failure is not None:
            raise self._failure
        check(self.finished, f"not over after {END_SECONDS:g} s: {self._standing()}")
        await self._after()

    async def _unless_over(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass  # the time is over

    def _standing(self) -> str:
        jobs = [job.id for job in self.jobs.values() if not job.finished]
        views = [self.operator.dispatcher.job(job) for job in jobs] if self.operator else []
        held = {one.uid: one.holdings.wire()["held"] for one in self.workers if one.lives}
        return f"{views}; held: {held}"

    async def _after(self) -> None:
        """Check what a client reads when all is over."""
        await asyncio.sleep(5.0)
        if self._failure is not None:
            raise self._failure
        for job in self.jobs.values():
            await self._read(job)

    async def _read(self, job: SimulatedJob) -> None:
        async def get(key: str) -> bytes:
            return self.bucket.objects[key]

        reader, book = LedgerReader(get, job.spec.prefix), job.book
        entries = [entry async for entry in reader.read(*job.status)]
        check(job.status == (book.length, book.digest), "the status lacks something")
        check(entries[-1].terminal == book.terminal is not None, "the end is not the last")
        read = [record.task for entry in entries for record in entry.records]
        check(sorted(read) == sorted(book.records), "other results are read than written")
        book.right()


class _Errors(logging.Handler):
    """What the code logs as an error is a violation: somebody swallowed it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._world.violated(f"logged: {record.getMessage()}: {error!r}")


def play(case: Case, events: Sequence[Event]) -> World:
    """Play one sequence; return the world as it is at the end."""
    worlds: list[World] = []

    def factory(loop: Any, coroutine: Any, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
        owned = context.get(OWNER) if context is not None else OWNER.get()
        if owned is not None:
            owned[task] = None
            task.add_done_callback(lambda done: owned.pop(done, None))
        return task

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        world = World(case)
        worlds.append(world)
        logger, handler = logging.getLogger("shoal"), _Errors(world)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.ERROR)
        try:
            await world.play(events)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    virtual_time.run(main, on_error=lambda message: worlds[-1].violated(message))
    return worlds[-1]
