"""Keeps each pool's Pods: observes, asks the plan, creates and deletes.

What a pool went through (Pods that ended early, creates that were refused) is remembered here while
somebody wants the pool, and forgotten when nobody does: who corrects a mistake and tries again must
not meet the old one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from shoal.dispatch import PoolSettings, PoolView
from shoal.errors import ApiError
from shoal.kube import PODS

from .cache import Cache
from .context import Context
from .endings import end_of, ended_by_itself
from .observe import PodFact, pod_fact
from .plan import CreatePods, DeletePod, PoolState, Retire, plan_pool
from .pods import direct_pod, pod_name, worker_pod
from .pools import Pool
from .reasons import Reason
from .trouble import History, Trouble, is_stale, no_contact, pool_trouble

logger = logging.getLogger(__name__)

REFUSED_PAUSE = 5.0
ENTER_SECONDS = 600.0
"""So long a worker may be silent while it fetches and unpacks its environment."""
ACCOUNT_PATIENCE = 10.0
"""Seconds in which a namespace's service account may come into being."""
CREATES_AT_ONCE = 10
ROOM_PAUSE = 2.0
"""Seconds for the scheduler to use the room that idle workers left, before more of them go."""
LONGEST_ROOM_PAUSE = 60.0


@dataclass(slots=True)
class _Memory:
    owner: str
    history: History = field(default_factory=History)
    contacted: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    told: Trouble | None = None
    room_at: float = 0.0
    room_pause: float = ROOM_PAUSE


class PoolKeeper:
    """Keeps the Pods of every pool."""

    def __init__(self, context: Context, *, on_news: Callable[[Pool], None]) -> None:
        """`on_news` is told when a pool's trouble is another one, or over."""
        self._context = context
        self._on_news = on_news
        self._memory: dict[str, _Memory] = {}
        self._owned: dict[str, set[str]] = {}
        self._entering: dict[str, float] = {}
        self._number = 0
        self.created = 0

    @property
    def _cache(self) -> Cache:
        return self._context.cache

    def view(self, pool: Pool) -> PoolView:
        """What the dispatcher knows of the pool."""
        return self._context.dispatcher.pool(pool.key)

    def trouble(self, pool: Pool) -> Trouble | None:
        """What keeps the pool's workers away, if anything does."""
        memory = self._memory.get(pool.key)
        return pool_trouble(
            self._cache.pods(pool.namespace, pool.hash),
            self.view(pool).connected,
            memory.history if memory else History(),
            self._context.settings,
            image=pool.template.image,
        )

    def enters(self, pod_uid: str) -> None:
        """A worker asks for its environment: it is silent for a while now."""
        self._entering[pod_uid] = time.time() + ENTER_SECONDS

    def entered(self, pod_uid: str) -> None:
        """The Pod is gone, or its worker has come to the dispatcher."""
        self._entering.pop(pod_uid, None)

    def _entering_of(self, pods: Iterable[PodFact], now: float) -> frozenset[str]:
        return frozenset(pod.uid for pod in pods if self._entering.get(pod.uid, 0.0) > now)

    async def keep(self, pool: Pool) -> float:
        """Bring the pool's Pods to what is wanted; return when to look again."""
        context, now = self._context, time.time()
        view = self.view(pool)
        pods = self._cache.pods(pool.namespace, pool.hash)
        for uid in view.connected:
            self.entered(uid)
        memory = self._remember(pool)
        context.dispatcher.set_pool(
            pool.key, PoolSettings(idle_seconds=pool.idle_seconds, min_workers=pool.min_workers)
        )
        self._learn(memory, pods, view, now, idle=not view.wanted and not pool.min_workers)
        state = PoolState(
            pool=pool,
            pods=pods,
            connected=view.connected,
            entering=self._entering_of(pods, now),
            wanted=view.wanted,
            widest=view.widest,
            history=memory.history,
            now=now,
            up_since=context.up_since,
        )
        if state.missing(context.settings) <= 0:
            memory.history = replace(memory.history, refused=None)
        plan = plan_pool(state, context.settings)
        for action in plan.actions:
            match action:
                case CreatePods(count):
                    await self._create(pool, memory, count)
                case DeletePod(uid):
                    await self.delete(uid)
                case Retire(uid):
                    context.dispatcher.retire(uid)
        trouble = self.trouble(pool)
        if trouble != memory.told:
            memory.told = trouble
            self._on_news(pool)
        times = [plan.wake_at, memory.history.retry_at if view.wanted else 0.0]
        if view.wanted:
            times.append(self._make_room(pool, memory, pods, trouble, now))
        return min((at for at in times if at > now), default=0.0)

    def _make_room(
        self,
        pool: Pool,
        memory: _Memory,
        pods: tuple[PodFact, ...],
        trouble: Trouble | None,
        now: float,
    ) -> float:
        """Let idle workers of other pools go where this pool's Pods find no room.

        Returns when to look again, 0 where there is room.
        """
        homeless = sum("Insufficient" in pod.unschedulable and pod.alive for pod in pods)
        quota = trouble is not None and trouble.reason is Reason.QUOTA_EXCEEDED
        if not homeless and not quota:
            memory.room_pause = ROOM_PAUSE
            return 0.0
        if now >= memory.room_at:
            memory.room_at = now + memory.room_pause
            # what finds no room after several tries may be too large for any node
            memory.room_pause = min(2 * memory.room_pause, LONGEST_ROOM_PAUSE)
            released = self._context.dispatcher.release_idle(
                homeless or 1, besides=pool.key, namespace=None if homeless else pool.namespace
            )
            if released:
                logger.info("%d idle workers go to make room for pool %s", released, pool.key)
        return memory.room_at

    async def delete_ended(self, pods: list[PodFact]) -> None:
        """Delete the ended Pods of pools that nobody uses any more."""
        for pod in pods:
            if pod.ended and not pod.deleting:
                await self.delete(pod.uid)

    async def create_direct(self, pool: Pool, argv: list[str], *, seconds: int | None) -> None:
        """Create a Pod that runs a command itself, for at most so many seconds."""
        memory = self._remember(pool)
        self._number += 1
        name = pod_name(pool, self._context.epoch, self._number)
        body = direct_pod(pool, name, argv, seconds=seconds, settings=self._context.settings)
        await self._post(pool, memory, body)

    def retry_at(self, pool: Pool) -> float:
        """Before this time no Pod of the pool is created."""
        memory = self._memory.get(pool.key)
        return memory.history.retry_at if memory else 0.0

    def forget(self, owner_uid: str) -> None:
        """The owner of some pools is gone, or needs them no more."""
        for key in self._owned.pop(owner_uid, ()):
            memory = self._memory.get(key)
            if memory is not None and memory.owner == owner_uid:
                del self._memory[key]
                self._context.dispatcher.forget_pool(key)

    def _remember(self, pool: Pool) -> _Memory:
        memory = self._memory.get(pool.key)
        if memory is None or memory.owner != pool.owner_uid:
            memory = self._memory[pool.key] = _Memory(owner=pool.owner_uid)
            self._owned.setdefault(pool.owner_uid, set()).add(pool.key)
        return memory

    def _learn(
        self, memory: _Memory, pods: tuple[PodFact, ...], view: PoolView, now: float, *, idle: bool
    ) -> None:
        """Take note of Pods that ended, or fell silent, before they reached us."""
        context = self._context
        memory.contacted |= view.connected
        present = {pod.uid for pod in pods}
        memory.contacted &= present
        memory.counted &= present
        heard = view.connected | self._entering_of(pods, now)
        history = memory.history
        if view.connected:
            # what the API server refuses it refuses still, until a create goes well
            refused = history.refused
            if refused is not None and refused.reason is Reason.WORKER_NO_CONTACT:
                refused = None
            retry_at = history.retry_at if refused is not None else 0.0
            history = History(refused=refused, retry_at=retry_at)
        for pod in pods:
            # what an operator before us made may have worked for it, or wait for its version
            if pod.uid in memory.contacted or pod.uid in memory.counted or pod.deleting:
                continue
            stale = is_stale(pod, heard, context.settings, now=now, up_since=context.up_since)
            of_another = pod.created < int(context.up_since)
            if stale and not view.connected and not of_another:
                memory.counted.add(pod.uid)
                silent = no_contact(pod, context.settings, now)
                history = replace(history, refused=silent, retry_at=now + 6 * REFUSED_PAUSE)
            elif ended_by_itself(pod) and not of_another:
                memory.counted.add(pod.uid)
                count = history.early_ends + 1
                pause = min(30.0, 0.5 * 2.0**count)
                history = replace(
                    history, early_ends=count, last_end=end_of(pod), retry_at=now + pause
                )
        memory.history = History() if idle else history

    async def _create(self, pool: Pool, memory: _Memory, count: int) -> None:
        bodies = []
        for _ in range(count):
            self._number += 1
            name = pod_name(pool, self._context.epoch, self._number)
            mac = self._context.identity.mac(pool.namespace, name, pool.owner_uid, pool.hash)
            bodies.append(
                worker_pod(
                    pool,
                    name,
                    mac=mac,
                    worker=self._context.worker,
                    settings=self._context.settings,
                )
            )
        # The first alone: what is refused once is refused for all.
        if bodies and await self._post(pool, memory, bodies[0]):
            for start in range(1, len(bodies), CREATES_AT_ONCE):
                batch = bodies[start : start + CREATES_AT_ONCE]
                done = await asyncio.gather(*(self._post(pool, memory, body) for body in batch))
                if not all(done):
                    return

    async def _post(self, pool: Pool, memory: _Memory, body: dict[str, object]) -> bool:
        context = self._context
        try:
            made = await context.api.create(PODS, body, pool.namespace)
        except ApiError as error:
            trouble = refusal(error, time.time())
            if trouble is None:
                raise
            trouble, pause = since_before(trouble, memory.history.refused, time.time())
            memory.history = replace(memory.history, refused=trouble, retry_at=time.time() + pause)
            logger.warning("no Pod for pool %s: %s", pool.key, trouble.message)
            return False
        fact = pod_fact(made)
        context.identity.made(fact.uid)
        self._cache.put_pod(fact)
        self.created += 1
        if memory.history.refused is not None:
            memory.history = replace(memory.history, refused=None)
        return True

    async def delete(self, uid: str) -> None:
        """Delete a Pod by uid."""
        fact = self._cache.pod(uid)
        if fact is None or fact.deleting:
            return
        logger.debug("deleting Pod %s of %s", fact.name, fact.namespace)
        try:
            await self._context.api.delete(PODS, fact.name, fact.namespace, uid=uid)
        except ApiError as error:
            if error.status != 409:  # 409: another Pod has the name now, ours is gone
                raise
        known = self._cache.pod(uid)
        if known is not None:
            self._cache.put_pod(replace(known, deleting=True))
        self._context.dispatcher.worker_gone(uid, "deleted")


def refusal(error: ApiError, now: float) -> Trouble | None:
    """What a refused create means, or None if trying again may help at once."""
    text = str(error)
    if error.status == 409:
        return None
    if error.status == 403 and "exceeded quota" in text:
        return Trouble(Reason.QUOTA_EXCEEDED, text)
    if error.status in (400, 403, 404, 422):
        young = "serviceaccount" in text and "not found" in text  # its namespace may be new
        fatal_at = now + ACCOUNT_PATIENCE if young else now
        return Trouble(Reason.POD_REJECTED, f"the API server refuses the Pod: {text}", fatal_at)
    return None


def since_before(trouble: Trouble, before: Trouble | None, now: float) -> tuple[Trouble, float]:
    """A refusal with the deadline of the first of its kind, and how long to wait after it."""
    if trouble.fatal_at is None:
        return trouble, REFUSED_PAUSE
    if before is not None and before.reason is trouble.reason and before.fatal_at is not None:
        trouble = replace(trouble, fatal_at=min(trouble.fatal_at, before.fatal_at))
    patient = trouble.fatal_at is not None and trouble.fatal_at > now
    return trouble, 1.0 if patient else 6 * REFUSED_PAUSE
