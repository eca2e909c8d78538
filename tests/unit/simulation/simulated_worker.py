"""A worker Pod as the dispatcher sees it: it speaks by the agent's rules, over a bad network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from book import Book, result

from shoal.dispatch import WorkerIdentity
from shoal.dispatch.logbook import Output
from shoal.dispatch.model import Fatal
from shoal.worker import ranges, records
from shoal.worker.holdings import Holdings
from shoal.worker.records import Record
from shoal_operator.observe import PodFact
from shoal_operator.pools import Pool

if TYPE_CHECKING:
    from world import World

POLL_SECONDS = 20.0
HEARTBEAT = 5.0
GIVE_UP_SECONDS = 300.0
POLL_RETRIES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
REPORT_RETRIES = (0.1, 0.3, 1.0, 2.0)


class Unreachable(Exception):
    """No answer came."""


class _Outcome:
    def __init__(self, job: str, claim: str, record: Record, seconds: float) -> None:
        self.job, self.claim, self.record, self.seconds = job, claim, record, seconds


class Running:
    """The task that runs."""

    def __init__(self, job: str, claim: str, task: int, attempt: int) -> None:
        self.job, self.claim, self.task, self.attempt = job, claim, task, attempt


class SimulatedWorker:
    """One Pod with its one container, the agent in it, and the child that runs tasks."""

    def __init__(self, world: World, uid: str, pool: Pool, size: int) -> None:
        self.world, self.uid, self.pool, self.size = world, uid, pool, size
        self.identity = WorkerIdentity(
            pod_uid=uid, pod=f"pod-{uid}", namespace="n", node="node", pool=pool.key
        )
        self.created, self.started = world.now(), 0.0
        self.deleting = self.gone = False
        self.exit_code: int | None = None
        self.told: dict[str, Any] = {}  # what its Pod's status says of its end
        self.cut_until = 0.0
        self.losses: list[tuple[str, int]] = []
        # the agent's
        self.holdings = Holdings()
        self.known: set[str] = set()
        self.queue: deque[Running] = deque()
        self.outcomes: list[_Outcome] = []
        self.batch: list[_Outcome] = []
        self.fatal: Fatal | None = None
        self.running: Running | None = None
        self._output: dict[str, list[Any]] = {}
        self._leaving = False
        self._to_do, self._to_report = asyncio.Event(), asyncio.Event()
        self._child: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # the Pod

    @property
    def lives(self) -> bool:
        """Whether its container runs."""
        return self.started > 0 and self.exit_code is None and not self.gone

    def tasks(self) -> set[tuple[str, int]]:
        """Return what is in its hands, by job and index."""
        return {
            (claim["job"], task)
            for claim in self.holdings.wire()["held"]
            for task in ranges.each(claim["tasks"])
        }

    def fact(self) -> PodFact:
        """Return the Pod as the operator sees it."""
        return PodFact(
            uid=self.uid,
            name=f"pod-{self.uid}",
            namespace="n",
            pool=self.pool.hash,
            owner_uid="owner",
            mac="",
            node="node",
            phase="Running" if self.started else "Pending",
            created=self.created,
            started=self.started,
            exit_code=self.exit_code,
            deleting=self.deleting,
        )

    def start(self) -> None:
        """The container begins."""
        if self.gone or self.deleting:
            return
        self.started = self.world.now()
        self._tasks = [
            self.world.spawn(self._poll),
            self.world.spawn(self._send),
        ]
        self._begin_child()

    def end(self, code: int) -> None:
        """The container ends."""
        self.exit_code = code
        for task in [*self._tasks, self._child]:
            if task is not None:
                task.cancel()

    # the network

    async def _call(self, what: str, message: Any, seconds: float) -> Any:
        lost = [part for verb, part in self.losses if verb == what]
        self.losses = [loss for loss in self.losses if loss[0] != what]
        await asyncio.sleep(self.world.case.network / 2)
        operator = self.world.reached_by(self)
        if operator is None or self._is_cut() or 0 in lost:
            raise Unreachable
        reply = operator.serve(self, what, message)
        try:
            async with asyncio.timeout(seconds):
                answer = await reply
        except TimeoutError as error:
            raise Unreachable from error
        while self._is_cut():
            await asyncio.sleep(max(0.01, self.cut_until - self.world.now()))
            lost.append(1)
        if lost:
            raise Unreachable
        await asyncio.sleep(self.world.case.network / 2)
        return answer

    def _is_cut(self) -> bool:
        return self.world.now() < self.cut_until

    # the poller

    async def _poll(self) -> None:
        contact, failures = self.world.now(), 0
        while not self._leaving:
            message = {**self.holdings.wire(), "knows": sorted(self.known), "wait": POLL_SECONDS}
            try:
                answer = await self._call("poll", message, POLL_SECONDS + 15.0)
            except Unreachable:
                if not self.holdings and self.world.now() - contact > GIVE_UP_SECONDS:
                    self.leave()
                await asyncio.sleep(POLL_RETRIES[min(failures, len(POLL_RETRIES) - 1)])
                failures += 1
                continue
            contact, failures = self.world.now(), 0
            self.holdings.returns_told()
            if answer.get("gone"):
                self._over(answer["gone"])
            for job in answer.get("revoke", ()):
                self._revoke(job)
            for claim in answer["claims"]:
                self._take(claim, answer.get("jobs", {}).get(claim["job"]))
            if answer.get("exit"):
                self.leave()

    def _take(self, claim: dict[str, Any], about: dict[str, Any] | None) -> None:
        job = claim["job"]
        self.holdings.add(claim)
        if about is not None:
            self.known = {job}
        elif job not in self.known:
            self.holdings.drop(job)
            return
        for task in ranges.each(ranges.parse(claim["tasks"])):
            self.queue.append(Running(job, claim["id"], task, claim["attempt"]))
        self._to_do.set()

    def _over(self, jobs: Collection[str]) -> None:
        for job in jobs:
            self.known.discard(job)
            self.holdings.drop(job)
            self.outcomes = [
                one for one in self.outcomes if one.job != job or self.holdings.holds(one.claim)
            ]
            if self.running is not None and self.running.job == job:
                self._begin_child()
        self._leave_if_done()

    def _revoke(self, job: str) -> None:
        begun = {(one.claim, one.record.task) for one in self.batch + self.outcomes}
        if self.running is not None:
            begun.add((self.running.claim, self.running.task))
        self.holdings.give_back(job, begun)

    def leave(self) -> None:
        """Exit once nothing is held."""
        self._leaving = True
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._leaving and not self.holdings and self.exit_code is None:
            self.world.container_ended(self, 0)

    # the child

    def _begin_child(self) -> None:
        if self._child is not None:
            self._child.cancel()
        self.running = None
        self._child = self.world.spawn(self._work)

    async def _work(self) -> None:
        while True:
            while not self.queue:
                self._to_do.clear()
                await self._to_do.wait()
            one = self.queue.popleft()
            if not self.holdings.may_begin(one.claim):
                continue
            self.running = one
            await self._run(one, self.world.jobs[one.job].book)
            self.running = None

    async def _run(self, one: Running, book: Book) -> None:
        index, attempt = one.task, one.attempt
        task, key = book.task(index), (index, attempt)
        book.runs[key] += 1
        book.begun[index] += 1
        run = book.begun[index]
        await asyncio.sleep(task.seconds)
        state, data = records.SUCCEEDED, result(index)
        if task.then == "dies" and run <= task.until:
            self.world.container_ended(self, 1, known=run % 2 == 0)
            await asyncio.sleep(0)  # nothing follows its own end
        elif task.then == "oom" and attempt <= task.until:
            self.world.container_ended(self, 137, cause="oom", known=run % 2 == 0)
            await asyncio.sleep(0)
        elif task.then in ("fail", "short") and attempt <= task.until:
            state = records.PYTHON_EXCEPTION if task.then == "fail" else records.OUT_OF_MEMORY
        elif task.then == "unpicklable":
            state = records.RESULT_CANNOT_BE_PICKLED
        if state == records.SUCCEEDED:
            book.succeeded.add(data)
        else:
            book.failed[key] += 1
        record = Record(index, attempt, state, records.PICKLE, data)
        self.outcomes.append(_Outcome(one.job, one.claim, record, task.seconds))
        if book.case.prints:
            self._output.setdefault(one.job, []).append(
                Output(index, attempt, self.identity.pod, b"text")
            )
        self._to_report.set()

    # the outbox

    def say_fatal(self, job: str) -> None:
        """Say that the job can run nowhere."""
        self.fatal = Fatal(job, "TaskFailed", "cannot be loaded")
        self._to_report.set()

    async def _send(self) -> None:
        number = failures = 0
        while True:
            self.batch = []
            if not self.outcomes and self.fatal is None:
                self._to_report.clear()
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await self._to_report.wait()
                except TimeoutError:
                    pass  # a sign of life is due
            self.batch, self.outcomes = self.outcomes, []
            output, self._output = self._output, {}
            fatal, self.fatal = self.fatal, None
            number += 1
            message = {"fatal": fatal, "output": output, "number": number}
            while True:
                try:
                    answer = await self._call("report", (message, self._groups()), 90.0)
                except Unreachable:
                    await asyncio.sleep(REPORT_RETRIES[min(failures, 3)])
                    failures += 1
                    continue
                if not answer["later"]:
                    break
                await asyncio.sleep(2.0)
            failures = 0
            for one in self.batch:
                self.holdings.acknowledged(one.claim, [one.record.task])
            self._over(answer["gone"])

    def _groups(self) -> list[Any]:
        groups: dict[tuple[str, str], list[_Outcome]] = {}
        for one in self.batch:
            groups.setdefault((one.job, one.claim), []).append(one)
        return [
            (job, claim, [one.record for one in outcomes], sum(one.seconds for one in outcomes))
            for (job, claim), outcomes in groups.items()
        ]
