"""Gives the tasks of jobs to the workers of pools.

Workers poll; a poll waits until there is something for it (`offers`). Every poll names the claims
that the worker holds: one that is missing twice never arrived, and is taken back.

One event loop, no locks: every method runs on the loop that `start` was called on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from shoal.dispatch import idleness
from shoal.dispatch.description import describe
from shoal.dispatch.logbook import Output
from shoal.dispatch.model import (
    JobSpec,
    JobStore,
    JobView,
    NotAttachedYet,
    PoolSettings,
    PoolView,
    WorkerIdentity,
)
from shoal.dispatch.offers import Offers
from shoal.dispatch.run import Cause, Run
from shoal.dispatch.sessions import Session
from shoal.ledger import Terminal
from shoal.worker import ranges

#: A poll is answered after this long at the latest, in seconds.
POLL_SECONDS = 20.0
#: A worker that was not heard from for this long is lost, in seconds.
SILENCE_SECONDS = 45.0
#: So long a Pod that is gone is known to be so, in seconds: longer than any request takes.
DEPARTED_SECONDS = 600.0
#: After a restart, how long nothing is reissued while live workers have not told what they hold.
GRACE_SECONDS = 20.0
#: How many times a worker's polls may lack a claim before it is taken back.
MISSES = 2
#: How often time is looked after, in seconds, and how often while a job is at its tail.
TICK_SECONDS = 1.0
TAIL_SECONDS = 0.25
#: Entries of all ledgers together, at the most, per second.
ENTRIES_PER_SECOND = 200.0

_log = logging.getLogger(__name__)

Untold = Literal["gone", "later"]


class Dispatcher:
    """The dispatcher of one operator, or of one `Local` host."""

    def __init__(
        self,
        *,
        secret: bytes,
        on_change: Callable[[str], None],
        is_known: Callable[[str], bool] = lambda job: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a dispatcher without jobs.

        `secret` makes the ledger's MACs; `on_change` is called with a job's id. `is_known` tells of
        a job that is not attached whether it may be yet: then its workers are to wait, else to drop
        what they hold of it.
        """
        self._secret, self._on_change, self._now = secret, on_change, now
        self._is_known = is_known
        self._runs: dict[str, Run] = {}
        self._attaching: dict[str, asyncio.Task[None]] = {}
        self._sessions: dict[str, Session] = {}
        self._offers = Offers(self._sessions, self._runs)
        self._pools: dict[str, PoolSettings] = {}
        self._departed: dict[str, float] = {}
        self._reported: dict[str, object] = {}
        self._ticker: asyncio.Task[None] | None = None

    # what the owner says

    def start(self) -> None:
        """Begin to look after time: silent workers, tasks that come due, idle workers."""
        self._ticker = asyncio.create_task(self._tick(), name="dispatcher ticks")

    async def stop(self) -> None:
        """Stop; what was not durable was not acknowledged, so workers send it again."""
        if self._ticker is not None:
            self._ticker.cancel()
        for run in self._runs.values():
            run.stop()
        for session in self._sessions.values():
            if session.is_waiting:
                session.answer({"claims": []})

    def set_pool(self, pool: str, settings: PoolSettings) -> None:
        """Set how long idle workers of a pool stay."""
        self._pools[pool] = settings

    def forget_pool(self, pool: str) -> None:
        """Forget a pool's settings: its owner is gone."""
        self._pools.pop(pool, None)

    async def attach(
        self,
        spec: JobSpec,
        store: JobStore,
        pool: str,
        *,
        fresh: bool,
        length: int = 0,
        digest: str = "",
        live: Iterable[str] = (),
        sized: Callable[[int], str] | None = None,
    ) -> None:
        """Take a job in; do nothing if it is in already.

        A `fresh` job is one that no dispatcher can have worked on. Any other is recovered from its
        ledger, of which the status vouches for the first `length` entries by `digest`; then its
        tasks wait until each of its pools' `live` Pods (by uid) has told what it holds. `sized(n)`
        is the pool of the workers with n times the memory, for the n-th attempts.

        Raises:
            shoal.errors.LedgerTampered: the ledger is not what the status or the MACs say.
            shoal.errors.StorageError: the bucket cannot be read now; try again later.
        """
        if spec.id in self._runs:
            return
        if spec.id not in self._attaching:
            run = Run(
                spec,
                store,
                pool,
                self._secret,
                sized=sized,
                interval=self._interval,
                on_change=lambda: self._changed(run),
                on_work=lambda: self._offers.of(run),
                now=self._now,
            )
            if fresh:
                self._enter(run)
                return
            recovery = self._recover(run, length, digest, frozenset(live))
            self._attaching[spec.id] = asyncio.create_task(recovery, name=f"attach {spec.name}")
        await asyncio.shield(self._attaching[spec.id])

    async def _recover(self, run: Run, length: int, digest: str, live: frozenset[str]) -> None:
        try:
            await run.recover(length, digest)
            told = {uid for uid, session in self._sessions.items() if session.told}
            run.work.hold(self._now() + GRACE_SECONDS, live - told - self._departed.keys())
            self._enter(run)
        finally:
            self._attaching.pop(run.spec.id, None)

    def _enter(self, run: Run) -> None:
        self._runs[run.spec.id] = run
        for session in self._sessions.values():
            for claim in session.awaited_claims.pop(run.spec.id, ()):
                self._adopt(run, session, claim)
        if run.terminal is None and run.all_over:
            run.end(Terminal("complete", "", ""))
        self._offers.of(run)
        self._on_change(run.spec.id)

    def detach(self, job: str) -> None:
        """Forget a job; its workers drop what they hold of it."""
        run = self._runs.pop(job, None)
        if run is not None:
            run.stop()
            self._interrupt(run)

    def finish(self, job: str, terminal: Terminal) -> None:
        """End a job before all its tasks are over."""
        run = self._runs.get(job)
        if run is not None:
            run.end(terminal)
            self._interrupt(run)

    def _changed(self, run: Run) -> None:
        self._on_change(run.spec.id)
        if run.terminal is not None:
            self._interrupt(run)

    def _interrupt(self, run: Run) -> None:
        """Let waiting polls of the job's workers learn that it is over, to clean up after it."""
        for session in self._sessions.values():
            if run.spec.id in session.knows and session.is_waiting:
                session.answer({"claims": [], "gone": [run.spec.id]})

    def set_parallelism(self, job: str, parallelism: int) -> None:
        """Change how many workers may work on the job at the same time."""
        run = self._runs.get(job)
        if run is not None and run.work.parallelism != parallelism:
            run.work.parallelism = parallelism
            self._offers.of(run)

    def set_suspended(self, job: str, suspended: bool) -> None:
        """Have the job's workers drop it and hand out nothing, or go on with what is not over."""
        run = self._runs.get(job)
        if run is not None and run.work.suspended != suspended:
            run.work.suspend(suspended)
            self._on_change(job)
            if suspended:
                self._interrupt(run)

    def give_up(self, job: str, attempt: int, message: str) -> None:
        """Fail the tasks that wait for the larger workers of an attempt: there will be none."""
        run = self._runs.get(job)
        if run is not None:
            run.give_up(attempt, message)

    def worker_gone(
        self,
        pod: str,
        why: str,
        *,
        running: tuple[str, int] | None = None,
        unknown: bool = False,
        cause: Cause = "disruption",
    ) -> None:
        """Take back all claims of a Pod that is gone.

        `running` is job and task in its termination message; `unknown` says that the container died
        and nobody knows which task did it; with the cause "oom" the task that did is charged with
        an attempt. What it has still to report is taken, but it gets nothing more.
        """
        self._departed[pod] = self._now()
        self._lose(pod, why, running=running, unknown=unknown, cause=cause)

    def _lose(
        self,
        pod: str,
        why: str,
        *,
        running: tuple[str, int] | None = None,
        unknown: bool = False,
        cause: Cause = "disruption",
    ) -> None:
        session = self._sessions.pop(pod, None)
        if session is not None and session.is_waiting:
            session.answer({"claims": [], "exit": True})
        where = (session.identity.pod, session.identity.node) if session is not None else ("", "")
        for run in list(self._runs.values()):
            task = running[1] if running is not None and running[0] == run.spec.id else None
            elsewhere = running is not None and task is None
            run.lose(
                pod,
                why,
                running=task,
                unknown=unknown or elsewhere,
                elsewhere=elsewhere,
                cause=cause,
                where=where,
            )

    def retire(self, pod: str) -> None:
        """Let a worker exit as soon as it holds nothing."""
        session = self._sessions.get(pod)
        if session is not None:
            self._let_go([session])

    def release_idle(self, count: int, *, besides: str, namespace: str | None = None) -> int:
        """Let up to `count` idle workers of other pools go, the longest idle first.

        For Pods of the pool `besides` that find no room; `namespace` looks only there (a quota).
        Returns how many go.
        """
        going = idleness.to_make_room(
            self._sessions.values(),
            self._pools,
            self._offers.busy(),
            count,
            besides=besides,
            namespace=namespace,
        )
        self._let_go(going)
        return len(going)

    def job(self, job: str) -> JobView | None:
        """Return what is durable of a job, or None if it is not attached."""
        run = self._runs.get(job)
        return run.view() if run is not None else None

    def jobs(self) -> Mapping[str, Run]:
        """Return the jobs that are attached, by id."""
        return self._runs

    def pool(self, pool: str) -> PoolView:
        """Return what is known of a pool now."""
        sessions = [one for one in self._sessions.values() if one.identity.pool == pool]
        busy = self._offers.busy()
        wanted = [
            run.work.wanted_workers(pool) for run in self._runs.values() if run.work.serves(pool)
        ]
        return PoolView(
            connected=frozenset(session.identity.pod_uid for session in sessions),
            idle=sum(session.identity.pod_uid not in busy for session in sessions),
            busy=sum(session.identity.pod_uid in busy for session in sessions),
            wanted=sum(wanted),
            widest=max(wanted, default=0),
        )

    # what workers say

    async def poll(self, worker: WorkerIdentity, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a worker's poll: claims as soon as there are some, or nothing after a while.

        The message is ``{"held": [claim, ...], "knows": [job id, ...], "wait": seconds}``; a claim
        is as it was handed out, its tasks less those that were acknowledged, and less those that
        the worker gives back: ``"returned": [[claim id, ranges], ...]``.
        """
        if worker.pod_uid in self._departed:  # it was on its way when its Pod went
            return {"claims": [], "exit": True}
        session = self._session(worker)
        for claim_id, tasks in message.get("returned", ()):
            for run in self._runs.values():
                run.work.returned(claim_id, worker.pod_uid, ranges.each(ranges.parse(tasks)))
        session.knows = set(message.get("knows", ()))
        if session.is_waiting:  # its connection was lost: nobody hears the older poll
            session.answer({"claims": []})
        gone, missed = self._reconcile(session, message.get("held", ()))
        gone += [job for job in session.knows if job not in gone and self._is_to_drop(job)]
        if gone or missed:
            return {"claims": [], "gone": gone}
        session.waiting = waiting = asyncio.get_running_loop().create_future()
        self._offers.to(session)
        try:
            async with asyncio.timeout(min(float(message.get("wait", POLL_SECONDS)), POLL_SECONDS)):
                answer: dict[str, Any] = await waiting
        except TimeoutError:  # it may have been answered in the same breath
            was_answered = waiting.done() and not waiting.cancelled()
            answer = waiting.result() if was_answered else {"claims": []}
        finally:
            if session.waiting is waiting:
                session.waiting = None
            session.heard = self._now()
        return answer

    async def report(
        self, worker: WorkerIdentity, message: Mapping[str, Any], groups: list[Any]
    ) -> dict[str, list[str]]:
        """Take a worker's report; answer when all of it is durable.

        `groups` holds ``(job, claim id, records, seconds)``. A job that is over or unknown is named
        under "gone"; under "later" one that is not yet attached after a restart, or of which the
        worker reports a failure and has not polled since then: its claims are not known yet.
        """
        session = self._session(worker)
        _log.debug("%s reports %d groups", worker.pod, len(groups))
        told: dict[str, list[str]] = {"gone": [], "later": []}
        if message.get("number") != self._reported.get(worker.pod_uid, ""):  # else it is here
            output = message.get("output", {})
            told["later"] += [job for job in output if self._look(worker, job) == "later"]
            if not told["later"]:
                self._reported[worker.pod_uid] = message.get("number")
                self._take_output(worker, output)  # before the outcomes: the last one ends a job
        waits: list[asyncio.Future[None]] = []
        for job, claim_id, outcomes, seconds in groups:
            run = self._look(worker, job)
            if not isinstance(run, Run):
                told[run].append(job)
            elif self._is_unheard(session) and run.is_unknown_failure(claim_id, outcomes):
                told["later"].append(job)  # its poll is to say first that it holds the claim
            else:
                waits += run.report(worker, claim_id, outcomes, seconds=seconds)
        if (fatal := message.get("fatal")) is not None:
            run = self._look(worker, fatal.job)
            if isinstance(run, Run):
                self.finish(run.spec.id, Terminal("failed", *fatal[1:]))
                waits.append(asyncio.ensure_future(run.settled()))
            elif run == "later":
                told["later"].append(fatal.job)
        self._offers.to(session)
        durable = asyncio.gather(*map(asyncio.shield, waits))
        await durable
        session.heard = self._now()
        if groups:
            session.idle_since = self._now()
        self._offers.to_pool(worker.pool)
        return told

    def _take_output(self, worker: WorkerIdentity, output: Mapping[str, list[Output]]) -> None:
        for job, parts in output.items():
            if isinstance(run := self._look(worker, job), Run):
                run.output(parts)

    def url_for_result(self, worker: WorkerIdentity, job: str) -> tuple[str, str] | None:
        """Return key and URL that a worker may upload one large result to; None for no such job.

        Raises:
            NotAttachedYet: the job may come.
        """
        run = self._found(worker, job)
        if run is None:
            return None
        key = f"{run.spec.prefix}/results/{worker.pod_uid}/{secrets.token_hex(12)}"
        return key, run.store.url_to_put(key)

    def describe(self, worker: WorkerIdentity, job: str) -> dict[str, Any] | None:
        """Return what a worker must know to begin with a job, its URLs fresh.

        Raises:
            NotAttachedYet: the job may come.
        """
        run = self._found(worker, job)
        return describe(run.spec, run.store) if run is not None else None

    def _found(self, worker: WorkerIdentity, job: str) -> Run | None:
        run = self._look(worker, job)
        if run == "later":
            raise NotAttachedYet(f"job {job} is not attached yet")
        return run if isinstance(run, Run) else None

    def _look(self, worker: WorkerIdentity, job: str) -> Run | Untold:
        """Return a job that the worker is there for, or what it is to be told of it.

        "later": it is not attached yet; "gone": it has ended, never was, or is not the worker's.
        """
        if self._is_awaited(job):
            return "later"
        run = self._runs.get(job)
        there = run is not None and run.terminal is None and run.work.serves(worker.pool)
        return run if run is not None and there else "gone"

    # the inner workings

    def _session(self, worker: WorkerIdentity) -> Session:
        session = self._sessions.get(worker.pod_uid)
        if session is None:
            now = self._now()
            session = Session(worker, now, now)
            if worker.pod_uid in self._departed:
                return session  # for its last words only
            self._sessions[worker.pod_uid] = session
            _log.info("worker %s joined pool %s", worker.pod, worker.pool)
            self._on_worker(worker.pool)
        session.heard = self._now()
        return session

    def _is_awaited(self, job: str) -> bool:
        """Whether a job is still to be attached."""
        return job not in self._runs and self._is_known(job)

    def _is_unheard(self, session: Session) -> bool:
        """Whether a worker is still to say what it holds."""
        return not session.told and session.identity.pod_uid not in self._departed

    def _on_worker(self, pool: str) -> None:
        for run in self._runs.values():
            if run.work.serves(pool):
                self._on_change(run.spec.id)

    def _reconcile(
        self, session: Session, held: Iterable[Mapping[str, Any]]
    ) -> tuple[list[str], bool]:
        """Compare what a worker says that it holds with what it was given.

        Returns the jobs to drop, and whether a claim is missing for the first time: the worker is
        then answered at once, and its next poll tells whether the claim was lost on its way.
        """
        uid = session.identity.pod_uid
        missed = False
        gone: list[str] = []
        named: set[str] = set()
        session.told = True
        session.awaited_claims.clear()
        for claim in held:
            job = claim["job"]
            named.add(claim["id"])
            run = self._runs.get(job)
            if self._is_awaited(job):
                session.awaited_claims.setdefault(job, []).append(dict(claim))
            elif run is None or self._is_to_drop(job) or not run.work.serves(session.identity.pool):
                gone.append(job)
            elif (known := run.work.claims.get(claim["id"])) is not None:
                known.missed = 0
            elif not run.over and not self._offers.made(claim["id"]):
                self._adopt(run, session, claim)
        for run in self._runs.values():
            if run.over:  # its workers are told to drop it before its end is durable
                continue
            for one in [one for one in run.work.claims.of(uid) if one.id not in named]:
                one.missed += 1
                missed = missed or one.missed < MISSES
                if one.missed >= MISSES:
                    _log.warning("%s never got claim %s: taken back", session.identity.pod, one.id)
                    run.work.give_back(one)
            run.work.heard_from(uid)
        return sorted(set(gone)), missed

    def _is_to_drop(self, job: str) -> bool:
        """Whether workers are to drop the job, be it only for now."""
        run = self._runs.get(job)
        if run is None:
            return not self._is_known(job)
        return run.terminal is not None or run.work.suspended

    def _adopt(self, run: Run, session: Session, claim: Mapping[str, Any]) -> None:
        one, tasks = session.identity, ranges.parse(claim["tasks"])
        run.work.adopt(claim["id"], one.pod_uid, one.pool, tasks, int(claim["attempt"]))

    def _interval(self) -> float:
        active = sum(not run.terminal for run in self._runs.values())
        return max(1, active) / ENTRIES_PER_SECOND

    async def _tick(self) -> None:
        while True:
            try:
                await asyncio.sleep(self._next_tick())
                self._look_after_time()
            except Exception:
                # one job's trouble must not end what all jobs need
                _log.exception("a look after time failed; the next one is in a second")
                await asyncio.sleep(1.0)

    def _look_after_time(self) -> None:
        now, busy = self._now(), self._offers.busy()
        for pod in [pod for pod, at in self._departed.items() if now - at > DEPARTED_SECONDS]:
            del self._departed[pod]
            self._reported.pop(pod, None)
        for session in list(self._sessions.values()):
            if session.identity.pod_uid in busy:
                session.idle_since = now
            if now - session.heard > SILENCE_SECONDS and not session.is_waiting:
                _log.warning("worker %s fell silent", session.identity.pod)
                self._lose(session.identity.pod_uid, "it fell silent")
        idle = idleness.idle_for_too_long(
            self._sessions.values(), self._pools, self._offers.busy(), now
        )
        self._let_go(idle)
        self._offers.help_out()
        for pool in {pool for run in self._runs.values() for pool in run.work.pools()}:
            self._offers.to_pool(pool)

    def _next_tick(self) -> float:
        due = [at for run in self._runs.values() if (at := run.work.wakes_at()) is not None]
        tail = any(run.work.at_its_tail for run in self._runs.values())
        most = TAIL_SECONDS if tail else TICK_SECONDS
        return min(most, max(0.01, min(due, default=float("inf")) - self._now()))

    def _let_go(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            session.leaving = True
            self._offers.to(session)
