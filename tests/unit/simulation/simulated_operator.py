"""An operator process: the real dispatcher, and around it what the operator does with it.

It attaches the job, keeps Pods by the real plan, writes the status with a delay, and dies at any
instant: then none of its tasks goes on, and nobody hears from it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from book import SECRET, check
from faulty_bucket import BucketClient
from simulated_job import SimulatedJob
from simulated_worker import SimulatedWorker, Unreachable

from shoal.dispatch import Dispatcher, JobView, PoolSettings
from shoal.dispatch.chain import Fenced
from shoal.dispatch.dispatcher import GRACE_SECONDS
from shoal.dispatch.offers import Offers
from shoal.errors import StorageError
from shoal.ledger import Terminal
from shoal.worker import ranges
from shoal.worker.records import SUCCEEDED
from shoal_operator.plan import CreatePods, DeletePod, PoolState, Retire, plan_pool
from shoal_operator.pools import Pool
from shoal_operator.settings import Settings
from shoal_operator.trouble import History

if TYPE_CHECKING:
    from world import World

SETTINGS = Settings(namespace="n", instance="i", cluster_id="c", service_name="s")
#: Which process a task of the loop belongs to.
OWNER: contextvars.ContextVar[Any] = contextvars.ContextVar("OWNER", default=None)


class Watched(Dispatcher):
    """The dispatcher; what it decides is checked as it is decided."""

    operator: OperatorProcess

    def _lose(self, pod: str, why: str, **more: Any) -> None:
        self.operator.loses(pod, **more)
        super()._lose(pod, why, **more)

    def _look_after_time(self) -> None:
        super()._look_after_time()
        self.operator.looked_after_time()


class WatchedOffers(Offers):
    """What it offers is checked as it is offered."""

    operator: OperatorProcess

    def _hand_out(self, session: Any, run: Any, claim: Any) -> None:
        super()._hand_out(session, run, claim)
        self.operator.kept[run.spec.id].hands_out(run, claim)


class OperatorProcess:
    """One process, from its start to its death."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        self.bucket = BucketClient(world.bucket)
        self.dispatcher = Watched(
            secret=SECRET,
            on_change=self._changed,
            is_known=lambda job: not world.jobs[job].finished,
            now=world.now,
        )
        self.dispatcher.operator = self
        offers = WatchedOffers(self.dispatcher._sessions, self.dispatcher._runs)
        offers.operator = self
        self.dispatcher._offers = offers
        # in their order, so that a sequence is always played the same
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._replies: dict[asyncio.Future[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self._tasks)
        self._news = asyncio.Event()
        self._began = world.now()
        self.told: set[str] = set()
        self.lost: set[str] = set()
        self._idle: set[tuple[str, str, int]] = set()
        self.kept = {job.id: KeptJob(self, job) for job in world.jobs.values()}
        self._spawn(self._operate())

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(coroutine, context=self._context)

    def do(self, act: Callable[..., Any], *args: Any, **more: Any) -> None:
        """Call a method of the dispatcher's in this process."""
        if not self.dead:
            self._context.run(lambda: act(*args, **more))

    def die(self) -> None:
        """Be killed."""
        self.dead = True
        for task in list(self._tasks):
            task.cancel()
        for reply in list(self._replies):
            if not reply.done():
                reply.set_exception(Unreachable())

    # what it does

    async def _operate(self) -> None:
        for worker in self.world.workers:  # the Pods that it finds
            if not worker.fact().alive:
                self.dispatcher.worker_gone(worker.uid, "gone", **worker.told)
        self.dispatcher.start()
        jobs = [one.keep() for one in self.kept.values() if not one.job.finished]
        await asyncio.gather(self._keep_pools(), *jobs)

    @property
    def is_current(self) -> bool:
        """Whether it is the operator, rather than one that goes on beside it."""
        return self.world.operator is self

    def look(self) -> None:
        """Look at the jobs again."""
        for one in self.kept.values():
            one.news.set()

    def _changed(self, job: str) -> None:
        if not self.dead:
            self.kept[job].changed()

    # Pods

    async def _keep_pools(self) -> None:
        while not self.world.finished:
            if self.is_current and any(one.attached for one in self.kept.values()):
                sizes = {1, *(one.size for one in self.world.workers)}
                for job in self.dispatcher.jobs():
                    view = self.dispatcher.job(job)
                    sizes |= set(view.sizes if view is not None else ())
                for size in sorted(sizes):
                    self._keep_pool(self.world.pool(size))
            await asyncio.sleep(0.5)

    def _keep_pool(self, pool: Pool) -> None:
        world, view = self.world, self.dispatcher.pool(pool.key)
        self.dispatcher.set_pool(pool.key, PoolSettings(idle_seconds=pool.idle_seconds))
        state = PoolState(
            pool=pool,
            pods=[one.fact() for one in world.workers if one.pool == pool],
            connected=view.connected,
            wanted=view.wanted,
            widest=view.widest,
            history=History(),
            now=world.now(),
            up_since=self._began,
        )
        there, most = len(state.alive(SETTINGS)), min(view.wanted, pool.max_workers)
        for action in plan_pool(state, SETTINGS).actions:
            match action:
                case CreatePods(count):
                    check(there + count <= most, f"{there} Pods and {count} new ones of {most}")
                    for _ in range(count):
                        world.create_pod(pool)
                case DeletePod(uid):
                    world.delete_pod(uid)
                case Retire(uid):
                    self.dispatcher.retire(uid)

    # what workers say

    def serve(self, worker: SimulatedWorker, what: str, message: Any) -> asyncio.Future[Any]:
        """Take a request; the future gets the answer, unless this process dies."""
        reply = asyncio.get_running_loop().create_future()
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._replies[reply] = None
        self._spawn(self._answer(worker, what, message, reply))
        return reply

    async def _answer(
        self, worker: SimulatedWorker, what: str, message: Any, reply: asyncio.Future[Any]
    ) -> None:
        try:
            if what == "poll":
                self.told.add(worker.uid)
                answer = await self.dispatcher.poll(worker.identity, message)
            else:
                about, groups = message
                answer = await self.dispatcher.report(worker.identity, about, groups)
                self._acknowledges(groups, answer)
        except Fenced:
            if not reply.done():
                reply.set_exception(Unreachable())
        except Exception as error:
            self.world.violated(f"{what} failed: {error!r}")
        else:
            if not reply.done():
                reply.set_result(answer)
        finally:
            self._replies.pop(reply, None)

    # what it decides

    def _acknowledges(self, groups: list[Any], answer: dict[str, Any]) -> None:
        for job, _, outcomes, _ in groups:
            book = self.world.jobs[job].book
            if job in answer["gone"] or job in answer["later"] or book.terminal is not None:
                continue
            for record in outcomes:
                if record.state == SUCCEEDED:
                    said = f"the result of task {record.task} is acknowledged"
                    check(record.task in book.records, f"{said}, and not durable")

    def looked_after_time(self) -> None:
        """Check that no worker idles over two looks while a job has a place and tasks for it."""
        dispatcher, pool = self.dispatcher, self.world.pool(1).key
        sessions, busy = dispatcher._sessions, dispatcher._offers.busy()
        idle = [
            uid
            for uid, one in sessions.items()
            if one.identity.pool == pool and one.is_waiting and not (uid in busy or one.leaving)
        ]
        before, self._idle = self._idle, set()
        for run in dispatcher.jobs().values():
            work, handed_out = run.work, self.kept[run.spec.id].handed_out
            holders = set(work.claims.workers())
            # the next claim is kept for a worker between two of them
            between = {one for one in work._members if not sessions[one].is_waiting}
            room = len(holders | between) < work.parallelism and not run.spec.more_memory
            if room and work.claimable(pool):
                self._idle |= {(uid, run.spec.id, handed_out) for uid in idle}
        for uid, job, _ in before & self._idle:
            check(False, f"{uid} idles, and {job} has tasks for it")

    def loses(
        self,
        pod: str,
        *,
        running: tuple[str, int] | None = None,
        unknown: bool = False,
        cause: str = "disruption",
    ) -> None:
        """A worker is gone, or silent."""
        self.lost.add(pod)
        for run in self.dispatcher.jobs().values():
            held = frozenset(index for claim in run.work.claims.of(pod) for index in claim.left)
            book = self.world.jobs[run.spec.id].book
            if held:
                book.losses.append(held)
            if cause == "oom" and running is None:
                book.blamed_for_memory |= held


class KeptJob:
    """A job as one operator process keeps it."""

    def __init__(self, operator: OperatorProcess, job: SimulatedJob) -> None:
        self.operator, self.world, self.job = operator, operator.world, job
        self.attached = False
        self.news = asyncio.Event()
        self._longest = 0
        self._live: set[str] = set()
        self._attached_at = 0.0
        self._was_suspended = False
        self.handed_out = 0

    async def keep(self) -> None:
        """Attach the job, tell its status, end it."""
        await asyncio.sleep(max(0.0, self.job.at - self.world.now()))
        while not self.job.finished:
            if not self.attached:
                await self._attach()
                continue
            self._level()
            view = self._view()
            if view.problem is not None and view.problem[0] == "IdInUse":
                self._detach()
                if not self.operator.is_current:
                    return
                continue
            if view.terminal is not None:
                await asyncio.sleep(self.world.case.network)
                if self.operator.is_current:
                    self.world.write_status(self.job, view)
                    self._detach()
                return
            self.news.clear()
            try:
                async with asyncio.timeout(self.world.case.status):
                    await self.news.wait()
            except TimeoutError:
                if self.operator.is_current:
                    self.world.write_status(self.job, view)
                await self.news.wait()

    async def _attach(self) -> None:
        world, job = self.world, self.job
        (length, digest), before = job.status, job.longest
        fresh = job.untouched and not length
        there = {one.uid for one in world.workers if one.fact().alive}
        self._live = set() if fresh else there
        try:
            await self.operator.dispatcher.attach(
                job.live_spec(),
                self.operator.bucket,
                world.pool(1).key,
                fresh=fresh,
                length=length,
                digest=digest,
                live=self._live,
                sized=lambda size: world.pool(size).key,
            )
        except StorageError:
            await asyncio.sleep(2.0)
            return
        job.untouched = False
        self.attached, self._attached_at = True, world.now()
        self._was_suspended = job.suspended
        if self.operator.is_current:
            view = self._view()
            check(view.ledger_length >= before, "less is there after the restart")
            check(view.ledger_length <= job.book.length, "more is told than is there")

    def _detach(self) -> None:
        self.operator.dispatcher.detach(self.job.id)
        self.attached = False

    def _level(self) -> None:
        """Bring the dispatcher up to what is asked for."""
        dispatcher, job = self.operator.dispatcher, self.job
        dispatcher.set_suspended(job.id, job.suspended)
        self._was_suspended = self._was_suspended or job.suspended
        dispatcher.set_parallelism(job.id, job.parallelism)
        if job.cancelled:
            dispatcher.finish(job.id, Terminal("cancelled", "Cancelled", ""))

    def _view(self) -> JobView:
        view = self.operator.dispatcher.job(self.job.id)
        assert view is not None
        return view

    def changed(self) -> None:
        """Check what the dispatcher tells of the job now."""
        self.news.set()
        view = self.operator.dispatcher.job(self.job.id)
        if view is None:
            return
        length, digest = view.ledger_length, view.ledger_digest
        check(length >= self._longest, f"the view goes back from {self._longest} to {length}")
        self._longest = length
        if length:
            check(self.job.book.digests[length - 1] == digest, "the view's digest is wrong")
        self.job.longest = max(self.job.longest, length)

    def hands_out(self, run: Any, claim: Any) -> None:
        """Check a claim that goes to a worker."""
        book, operator = self.job.book, self.operator
        self.handed_out += 1
        holders = len(run.work.claims.workers())
        check(holders <= run.work.parallelism, f"{holders} of {run.work.parallelism} workers")
        if self.world.now() < self._attached_at + GRACE_SECONDS and not self._was_suspended:
            missing = self._live - operator.told - operator.lost
            check(not missing, f"tasks are handed out before {missing} told what they hold")
        if run.chain.length != book.length:
            return
        for index in ranges.each(claim.tasks):
            check(index not in book.records, f"task {index} is over, and handed out again")
            attempt = book.attempts[index] + 1
            check(claim.attempt == attempt, f"attempt {claim.attempt} of {index}: it is {attempt}")
