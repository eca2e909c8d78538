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
from simulated_worker import SimulatedWorker, Unreachable

from shoal.dispatch import Dispatcher, JobView, PoolSettings
from shoal.dispatch.chain import Fenced
from shoal.dispatch.dispatcher import GRACE_SECONDS
from shoal.errors import StorageError
from shoal.ledger import Terminal
from shoal.worker import ranges
from shoal.worker.records import SUCCEEDED, Record
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

    def _hand_out(self, session: Any, run: Any, claim: Any) -> None:
        super()._hand_out(session, run, claim)
        self.operator.hands_out(run, claim)


class OperatorProcess:
    """One process, from its start to its death."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        self.bucket = BucketClient(world.bucket)
        self.dispatcher = Watched(
            secret=SECRET,
            on_change=self._changed,
            is_known=lambda job: not world.finished,
            now=world.now,
        )
        self.dispatcher.operator = self
        self._tasks: set[asyncio.Task[Any]] = set()
        self._replies: set[asyncio.Future[Any]] = set()
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self._tasks)
        self._news = asyncio.Event()
        self._began = world.now()
        self._last: tuple[int, str] = (0, "")
        self._told: set[str] = set()
        self._lost: set[str] = set()
        self._live: set[str] = set()
        self._attached_at = 0.0
        self._attached = False
        self._was_suspended = False
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
        for task in self._tasks:
            task.cancel()
        for reply in self._replies:
            if not reply.done():
                reply.set_exception(Unreachable())

    # what it does

    async def _operate(self) -> None:
        for worker in self.world.workers:  # the Pods that it finds
            if not worker.fact().alive:
                self.dispatcher.worker_gone(worker.uid, "gone", **worker.told)
        self.dispatcher.start()
        pools = asyncio.create_task(self._keep_pools())
        while not self.world.finished:
            if not self._attached:
                await self._attach()
                continue
            self._level()
            view = self.dispatcher.job(self.world.spec.id)
            assert view is not None
            if view.problem is not None and view.problem[0] == "IdInUse":
                self.dispatcher.detach(self.world.spec.id)
                self._attached = False
                if not self._is_current:
                    break
                continue
            if view.terminal is not None:
                await asyncio.sleep(self.world.case.network)
                if self._is_current:
                    self.world.write_status(view)
                    self.dispatcher.detach(self.world.spec.id)
                break
            self._news.clear()
            try:
                async with asyncio.timeout(self.world.case.status):
                    await self._news.wait()
            except TimeoutError:
                if self._is_current:
                    self.world.write_status(view)
                await self._news.wait()
        await pools

    @property
    def _is_current(self) -> bool:
        return self.world.operator is self

    async def _attach(self) -> None:
        world = self.world
        (length, digest), before = world.status, world.longest
        fresh = world.untouched and not length
        there = {one.uid for one in world.workers if one.fact().alive}
        self._live = set() if fresh else there
        try:
            await self.dispatcher.attach(
                world.live_spec(),
                self.bucket,
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
        world.untouched = False
        self._attached, self._attached_at = True, world.now()
        self._was_suspended = world.suspended
        if self._is_current:
            book = world.book
            view = self._view()
            check(view.ledger_length >= before, "less is there after the restart")
            check(view.ledger_length <= book.length, "more is told than is there")

    def _level(self) -> None:
        """Bring the dispatcher up to what is asked for."""
        world, job = self.world, self.world.spec.id
        self.dispatcher.set_suspended(job, world.suspended)
        self._was_suspended = self._was_suspended or world.suspended
        self.dispatcher.set_parallelism(job, world.parallelism)
        if world.cancelled:
            self.dispatcher.finish(job, Terminal("cancelled", "Cancelled", ""))

    def look(self) -> None:
        """Look at the job again."""
        self._news.set()

    def _view(self) -> JobView:
        view = self.dispatcher.job(self.world.spec.id)
        assert view is not None
        return view

    def _changed(self, job: str) -> None:
        if self.dead:
            return
        self._news.set()
        view = self.dispatcher.job(job)
        if view is None:
            return
        length, digest = view.ledger_length, view.ledger_digest
        check(length >= self._last[0], f"the view goes back from {self._last[0]} to {length}")
        self._last = (length, digest)
        if length:
            check(self.world.book.digests[length - 1] == digest, "the view's digest is wrong")
        self.world.longest = max(self.world.longest, length)

    # Pods

    async def _keep_pools(self) -> None:
        while not self.world.finished:
            if self._attached and self._is_current:
                view = self.dispatcher.job(self.world.spec.id)
                sizes = {1, *(view.sizes if view is not None else ())}
                for size in sorted(sizes | {one.size for one in self.world.workers}):
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
        self._replies.add(reply)
        self._spawn(self._answer(worker, what, message, reply))
        return reply

    async def _answer(
        self, worker: SimulatedWorker, what: str, message: Any, reply: asyncio.Future[Any]
    ) -> None:
        try:
            if what == "poll":
                self._told.add(worker.uid)
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
            self._replies.discard(reply)

    # what it decides

    def _acknowledges(self, groups: list[Any], answer: dict[str, Any]) -> None:
        book = self.world.book
        for job, _, outcomes, _ in groups:
            if job in answer["gone"] or job in answer["later"] or book.terminal is not None:
                continue
            for record in outcomes:
                self._is_durable(record)

    def _is_durable(self, record: Record) -> None:
        if record.state == SUCCEEDED:
            durable = record.task in self.world.book.records
            check(durable, f"the result of task {record.task} is acknowledged, and not durable")

    def loses(
        self,
        pod: str,
        *,
        running: tuple[str, int] | None = None,
        unknown: bool = False,
        cause: str = "disruption",
    ) -> None:
        """A worker is gone, or silent."""
        self._lost.add(pod)
        for run in self.dispatcher.jobs().values():
            held = frozenset(index for claim in run.work.claims.of(pod) for index in claim.left)
            if held:
                self.world.book.losses.append(held)
            if cause == "oom" and running is None:
                self.world.book.blamed_for_memory |= held

    def hands_out(self, run: Any, claim: Any) -> None:
        """Check a claim that goes to a worker."""
        book, world = self.world.book, self.world
        holders = len(run.work.claims.workers())
        check(holders <= run.work.parallelism, f"{holders} of {run.work.parallelism} workers")
        if world.now() < self._attached_at + GRACE_SECONDS and not self._was_suspended:
            missing = self._live - self._told - self._lost
            check(not missing, f"tasks are handed out before {missing} told what they hold")
        if run.chain.length != book.length:
            return
        for index in ranges.each(claim.tasks):
            check(index not in book.records, f"task {index} is over, and handed out again")
            attempt = book.attempts[index] + 1
            check(claim.attempt == attempt, f"attempt {claim.attempt} of {index}: it is {attempt}")
