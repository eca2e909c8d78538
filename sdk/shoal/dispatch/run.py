"""One job while it runs: from the claim of a task to its durable outcome.

Joins the bookkeeping of `tasks`, the claims, the ledger's writer and the log. It knows no worker
sessions and no HTTP; `dispatcher` asks it for claims and gives it what workers report.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal

from shoal import ledger
from shoal.dispatch.chain import Fenced, LedgerWriter
from shoal.dispatch.claims import Claim, Claims
from shoal.dispatch.logbook import Logbook, Output
from shoal.dispatch.model import JobSpec, JobStore, JobView, WorkerIdentity
from shoal.dispatch.tasks import Tasks
from shoal.errors import LedgerTampered, StorageError
from shoal.ledger import Charge, Terminal
from shoal.ledger_reader import LedgerReader
from shoal.worker import ranges, records
from shoal.worker.records import Record

_log = logging.getLogger(__name__)

Cause = Literal["disruption", "oom"]

#: A worker with several tasks that has not reported for so long gives back, in seconds, ...
STALL_SECONDS = 0.25
#: ... and is not asked again before so many more.
ASK_AGAIN_SECONDS = 1.0
#: A task is copied after so long, in seconds, and so many times the mean time of a task.
SPECULATE_SECONDS = 1.0
SPECULATE_FACTOR = 2.0
#: A task that failed with more than this part of its memory in use failed for want of it.
MEMORY_SHORT = 0.95
#: States of a failed attempt that another attempt cannot mend.
_FINAL = frozenset({records.RESULT_CANNOT_BE_PICKLED})


class Run:
    """A job that is attached to the dispatcher."""

    def __init__(
        self,
        spec: JobSpec,
        store: JobStore,
        pool: str,
        secret: bytes,
        *,
        sized: Callable[[int], str] | None = None,
        interval: Callable[[], float],
        on_change: Callable[[], None],
        on_work: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """`sized(n)` is the pool of the workers with n times the memory.

        `on_change` is called when the view changed, `on_work` when tasks became claimable.
        """
        self.spec, self.store = spec, store
        self.parallelism, self.suspended = spec.parallelism, spec.suspended
        self.claims = Claims()
        self._sized = sized if spec.more_memory else None
        self._sizes = {pool: 1}
        self._members: dict[str, int] = {}
        self.held_until = 0.0
        self.awaited: set[str] = set()
        self.problem: tuple[str, str] | None = None
        self.terminal: Terminal | None = None
        self.succeeded = self.failed = 0
        self.only_record: Record | None = None
        self.results_file = ""
        self._copies: set[int] = set()
        self._json: dict[int, Record] = {}
        self._secret, self._now = secret, now
        self._on_change, self._on_work = on_change, on_work
        self._tasks = Tasks(
            spec.total,
            max_attempts=spec.max_attempts,
            max_disruptions=spec.max_disruptions,
            backoff=spec.backoff,
            sized=self._sized is not None,
        )
        self.log = Logbook(spec, store, on_change)
        self.chain = LedgerWriter(
            spec,
            store,
            secret,
            interval=interval,
            on_durable=self._durable,
            on_trouble=self._trouble,
            logs_length=lambda: self.log.length,
        )
        self._ending: asyncio.Task[None] | None = None

    # recovery

    async def recover(self, length: int, digest: str) -> None:
        """Read the ledger; the first `length` entries are vouched for by `digest`, the rest by MAC.

        Raises:
            LedgerTampered: the ledger is shorter than `length`, changed, or an entry is not ours.
            StorageError: the bucket cannot be read now.
        """
        reader = LedgerReader(self._fetch, self.spec.prefix)
        if length:
            async for entry in reader.read(length, digest):
                self._replay(entry)
        n, previous = reader.length, reader.digest
        while (raw := await self.store.get(ledger.key(self.spec.prefix, n))) is not None:
            entry = ledger.open_entry(raw)
            if entry.n != n or entry.prev != previous:
                raise LedgerTampered(f"{self.spec.name}: entry {n} does not follow its predecessor")
            if not ledger.is_authentic(raw, self.spec.context, self._secret):
                raise LedgerTampered(f"{self.spec.name}: entry {n} was not written by the operator")
            previous = entry.digest
            self._replay(entry)
            n += 1
        self.chain.resume(n, previous)
        self._tasks.recovered()

    async def _fetch(self, key: str) -> bytes:
        raw = await self.store.get(key)
        if raw is None:
            raise LedgerTampered(f"{self.spec.name}: the status tells of {key}, it is not there")
        return raw

    def _replay(self, entry: ledger.Entry) -> None:
        for charge in entry.charges:
            self._tasks.charge(charge.index, charge.kind)
        for record in entry.records:
            self._tasks.finish(record.task)
        self._durable(entry)

    def hold(self, until: float, pods: Iterable[str]) -> None:
        """After a restart: hand out nothing until each of `pods` told what it holds, or `until`."""
        self.held_until, self.awaited = until, set(pods)

    def lost(self, pod: str) -> None:
        """Note that a worker is gone, or does not say what it holds."""
        self._members.pop(pod, None)
        self.heard_from(pod)

    def heard_from(self, pod: str) -> None:
        """Note that a live worker has told what it holds."""
        if pod in self.awaited:
            self.awaited.discard(pod)
            if not self.awaited:
                self._on_work()

    # whose work it is

    def pools(self) -> list[str]:
        """Return the pools that work on the job, or could right now."""
        for size in self._tasks.sizes():
            self._pool_of(size)
        return list(self._sizes)

    def serves(self, pool: str) -> bool:
        """Tell whether workers of the pool may work on the job."""
        return pool in self._sizes or (self._sized is not None and pool in self.pools())

    def _pool_of(self, size: int) -> None:
        if self._sized is not None and size > 1 and size not in self._sizes.values():
            self._sizes[self._sized(size)] = size

    def _demand(self) -> dict[int, int]:
        """Return how many workers of each size the job can use, `parallelism` in all.

        Larger ones, for tasks that were tried before, get up to half of it while there are others.
        """
        if self.over or self.suspended:
            return {}
        larger = {size: count for size, count in self._tasks.sizes().items() if size > 1}
        for claim in self.claims.values():
            if (size := self._tasks.size_of_attempt(claim.attempt)) > 1:
                larger[size] = larger.get(size, 0) + len(claim.left)
        usual = max(0, self.spec.total - self._tasks.finished - sum(larger.values()))
        room = self.parallelism // 2 if usual else self.parallelism
        demand: dict[int, int] = {}
        for size in sorted(larger):
            demand[size] = min(larger[size], room)
            room -= demand[size]
        copies = 2 if self.spec.speculation else 1
        demand[1] = min(self.parallelism - sum(demand.values()), usual * copies)
        return demand

    def wanted_workers(self, pool: str | None = None) -> int:
        """Return how many workers, of one pool or of all, could be busy with this job."""
        demand = self._demand()
        return sum(demand.values()) if pool is None else demand.get(self._sizes.get(pool, 0), 0)

    # claims

    @property
    def over(self) -> bool:
        """Whether the job has ended, or is about to: nothing more is handed out."""
        return self.terminal is not None or self.chain.closed or self._ending is not None

    @property
    def size(self) -> int:
        """The number of workers that have begun with the job and are not done with it."""
        return len(self._members)

    def claimable(self, pool: str) -> int:
        """Return how many tasks workers of a pool could claim now."""
        if self.over or self.suspended or self._held() or not self.serves(pool):
            return 0
        return self._tasks.ready(self._now(), self._sizes[pool])

    def _held(self) -> bool:
        return bool(self.awaited) and self._now() < self.held_until

    def wakes_at(self) -> float | None:
        """Return when tasks become claimable by time alone, or None."""
        if self.over or self.suspended:
            return None
        return self.held_until if self._held() else self._tasks.next_due()

    def claim(self, claim_id: str, worker: str, pool: str) -> Claim | None:
        """Hand tasks to a worker; None when there are none now, or enough workers have some.

        A worker that once got tasks stays a member of the job while it has any: the next claim is
        kept for it rather than given to another, which would have to begin with the job.
        """
        if not self.claimable(pool) or not self._has_room(worker, pool):
            if not self.claims.of(worker):
                self._members.pop(worker, None)
            return None
        now, size = self._now(), self._sizes[pool]
        most = self._tasks.claim_size(max(1, min(self.parallelism, self.spec.total)), now)
        taken, attempt = self._tasks.claim(most, now, size)
        if not taken:
            return None
        return self._hand_out(Claim(claim_id, self.spec.id, worker, attempt, taken), size)

    def _hand_out(self, claim: Claim, size: int) -> Claim:
        claim.progress = self._now()
        self.claims.add(claim)
        self._members[claim.worker] = size
        return claim

    def _has_room(self, worker: str, pool: str) -> bool:
        """Whether the worker can be, or stay, a member."""
        size = self._sizes[pool]
        others = [other for member, other in self._members.items() if member != worker]
        if len(others) >= self.parallelism:
            return False
        return len(self._sizes) == 1 or others.count(size) < self._demand().get(size, 0)

    # what idle workers may do while others are busy

    @property
    def at_its_tail(self) -> bool:
        """Whether all that is left is in workers' hands."""
        return bool(self.claims) and not self._tasks.ready(self._now())

    def stalled(self, worker: str, pool: str) -> str | None:
        """Return a worker that should give back what it has not begun, for `worker` to take.

        It has several tasks in hand and has been at the first of them for a while.
        """
        if not self._may_help(worker, pool):
            return None
        now = self._now()
        found = [
            claim
            for claim in self.claims.values()
            if len(claim.left) > 1
            and claim.worker != worker
            and now - claim.progress > STALL_SECONDS
            and now - claim.asked > ASK_AGAIN_SECONDS
            and self._tasks.size_of_attempt(claim.attempt) == self._sizes[pool]
        ]
        claim = max(found, key=lambda one: len(one.left), default=None)
        if claim is None:
            return None
        claim.asked = now
        return claim.worker

    def returned(self, claim_id: str, worker: str, tasks: Iterable[int]) -> None:
        """Take tasks that a worker gave back unbegun."""
        claim = self.claims.get(claim_id)
        if claim is None or claim.worker != worker:
            return
        back = [index for index in tasks if index in claim.left]
        for index in back:
            del claim.left[index]
        self.claims.drop_if_done(claim)
        alone = [index for index in back if not self._copied(index)]
        self._tasks.put_back(alone)
        if alone:
            self._on_work()

    def copy(self, claim_id: str, worker: str, pool: str) -> Claim | None:
        """Hand the task that has been running longest to a second worker, if that may pay."""
        if not self.spec.speculation or not self._may_help(worker, pool):
            return None
        now = self._now()
        slow = max(SPECULATE_SECONDS, SPECULATE_FACTOR * (self._tasks.seconds_each or 0.0))
        found = [
            claim
            for claim in self.claims.values()
            if claim.worker != worker
            and len(claim.left) == 1
            and now - claim.progress > slow
            and next(iter(claim.left)) not in self._copies
            and self._tasks.size_of_attempt(claim.attempt) == self._sizes[pool]
        ]
        slowest = min(found, key=lambda one: one.progress, default=None)
        if slowest is None:
            return None
        (index,) = slowest.left
        self._copies.add(index)
        twin = Claim(claim_id, self.spec.id, worker, slowest.attempt, [(index, index + 1)])
        return self._hand_out(twin, self._sizes[pool])

    def _may_help(self, worker: str, pool: str) -> bool:
        idle = not (self.over or self.suspended or self._held() or self.claims.of(worker))
        return idle and self.serves(pool) and self._has_room(worker, pool)

    def _copied(self, index: int) -> bool:
        """Whether some live claim holds the task (asked after another claim let go of it)."""
        if index not in self._copies:
            return False
        if self.claims.holds(index):
            return True
        self._copies.discard(index)
        return False

    def suspend(self, suspended: bool) -> None:
        """Take everything back without a charge and hand out nothing, or go on."""
        self.suspended = suspended
        for claim in list(self.claims.values()):
            self.claims.remove(claim)
            self._tasks.put_back([index for index in claim.left if not self._copied(index)])
        self._members.clear()
        self._on_change()
        self._on_work()

    def enough(self, worker: str) -> bool:
        """Tell whether what the worker holds keeps it busy until its next poll is answered."""
        left = sum(len(claim.left) for claim in self.claims.of(worker))
        if not left:
            return False
        each = self._tasks.seconds_each
        return each is None or left * each > 0.05

    def adopt(
        self, claim_id: str, worker: str, pool: str, tasks: list[ranges.Range], attempt: int
    ) -> None:
        """Take over a claim that a dispatcher before this one handed out."""
        inside = [(start, min(stop, self.spec.total)) for start, stop in tasks]
        left = [index for index in ranges.each(inside) if not self._tasks.is_over(index)]
        if not left or self.suspended:
            return
        self._copies.update(index for index in left if self.claims.holds(index))
        self._tasks.withdraw(left)
        claim = Claim(claim_id, self.spec.id, worker, attempt, ranges.of(left))
        self._hand_out(claim, self._sizes.get(pool, 1))

    def take_back(
        self,
        claim: Claim,
        why: str,
        *,
        running: int | None,
        unknown: bool,
        cause: Cause = "disruption",
        where: tuple[str, str] = ("", ""),
    ) -> None:
        """Put a lost claim's tasks back in line.

        `running` is the task that was running as far as anybody knows; `unknown` says that one of
        the tasks may be what killed the worker, so that each is reissued alone. A task that used up
        the memory is charged with an attempt, one whose worker was taken away with a disruption;
        one that another worker has, too, with nothing. `where` was the worker (Pod, node).
        """
        self.claims.remove(claim)
        left = [index for index in claim.left if not self._copied(index)]
        if self.over or not left:
            return
        suspect = running if running in left else (left[0] if not unknown else None)
        if suspect is None and len(left) == 1:
            suspect = left[0]
        if suspect is not None:
            left.remove(suspect)
            if cause == "oom":
                self._out_of_memory(suspect, where)
            else:
                self._disrupted(suspect, why, where)
        self._tasks.put_back(left, apart=unknown)
        self._on_work()

    def give_back(self, claim: Claim) -> None:
        """Put the tasks of a claim that never reached its worker back in line."""
        self.claims.remove(claim)
        self._tasks.put_back([index for index in claim.left if not self._copied(index)])
        self._on_work()

    def give_up(self, attempt: int, message: str) -> None:
        """Fail every task that waits for the workers of an attempt: there will be none."""
        found = self._tasks.give_up(attempt) if attempt > 1 else []
        if found and not self.over:
            text = json.dumps(["OutOfMemory", message, ""]).encode()
            self._accept(
                [
                    # the attempt that was made, not the one that could not be
                    Record(index, attempt - 1, records.OUT_OF_MEMORY, records.ERROR, text)
                    for index in found
                ],
                ("", ""),
            )

    def _out_of_memory(self, index: int, where: tuple[str, str]) -> None:
        if self._tasks.may_retry(index):
            self._retry(index)
            return
        text = "the container was killed because its memory was used up"
        data = json.dumps({"returnCode": -9, "lastLines": text}).encode()
        attempt = self._tasks.attempt_of(index)
        memory = self._memory_of(attempt) >> 20
        record = Record(
            index, attempt, records.OUT_OF_MEMORY, records.EXIT, data, None, memory=memory
        )
        self._accept([record], where)

    def _memory_of(self, attempt: int) -> int:
        return self.spec.memory * self._tasks.size_of_attempt(attempt)

    def _disrupted(self, index: int, why: str, where: tuple[str, str]) -> None:
        attempt = self._tasks.attempt_of(index)
        if self._tasks.may_reissue(index):
            self._charge_then(
                index, "disruption", lambda: self._tasks.put_back([index], apart=True)
            )
            return
        text = f"its worker was lost {self.spec.max_disruptions + 1} times, at last: {why}"
        data = json.dumps(["WorkerLost", text, ""]).encode()
        self._accept([Record(index, attempt, records.WORKER_LOST, records.ERROR, data)], where)

    def _charge_then(self, index: int, kind: str, then: Callable[[], None]) -> asyncio.Future[None]:
        """Charge an attempt, and only when that is durable let the task be claimed again."""
        done = self.chain.add_charge(Charge(index, kind))

        def durable(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._tasks.charge(index, kind)
                then()
                self._on_work()

        done.add_done_callback(durable)
        return done

    # reports

    async def report(
        self, worker: WorkerIdentity, claim_id: str, outcomes: list[Record], *, seconds: float
    ) -> None:
        """Take a worker's outcomes; return when all of them are durable.

        Raises:
            Fenced: somebody else writes this job's ledger; the outcomes are not accepted.
            ValueError: an outcome names an object that is not this worker's.
        """
        self._check(worker, outcomes)
        if self.chain.closed:  # nothing follows the terminal record
            if (end := self.chain.barrier()) is not None:
                await asyncio.shield(end)
            return
        claim = self.claims.get(claim_id)
        final, again = self._sort(claim, outcomes)
        waits = [self._retry(task) for task in again]
        self._tasks.timed(len(outcomes), seconds)
        if claim is not None:
            claim.progress = self._now()
            self.claims.drop_if_done(claim)
        if final:
            waits.append(self._accept(final, (worker.pod, worker.node)))
        elif (before := self.chain.barrier()) is not None:
            waits.append(before)
        for wait in waits:
            await asyncio.shield(wait)

    def _check(self, worker: WorkerIdentity, outcomes: list[Record]) -> None:
        own = f"{self.spec.prefix}/results/{worker.pod_uid}/"
        for record in outcomes:
            if not 0 <= record.task < self.spec.total:
                raise ValueError(f"{worker.pod} reports task {record.task} of {self.spec.total}")
            if record.ref is not None and not record.ref.key.startswith(own):
                raise ValueError(f"{worker.pod} names {record.ref.key} as a result of its own")

    def _sort(self, claim: Claim | None, outcomes: list[Record]) -> tuple[list[Record], list[int]]:
        """Return the outcomes that are final, and the tasks that get another attempt.

        A success counts from any claim, a failure only from the one that is current, and only if no
        other worker has a copy of the task.
        """
        final: list[Record] = []
        again: list[int] = []
        for record in outcomes:
            current = claim is not None and record.task in claim.left
            if claim is not None:
                claim.left.pop(record.task, None)
            if self._tasks.is_over(record.task):
                continue
            failed = record.state != records.SUCCEEDED
            if failed and (not current or self._copied(record.task)):
                continue
            if failed:
                record = self._diagnosed(record)
            if failed and record.state not in _FINAL and self._tasks.may_retry(record.task):
                again.append(record.task)
            else:
                final.append(record)
        return final, again

    def _diagnosed(self, record: Record) -> Record:
        """Say of a failed task that used nearly all of its memory that this is what it lacked."""
        most = self._memory_of(self._tasks.attempt_of(record.task))
        short = most and record.memory << 20 > MEMORY_SHORT * most
        if self.spec.more_memory and short and record.state not in _FINAL:
            return record._replace(state=records.OUT_OF_MEMORY)
        return record

    def _retry(self, index: int) -> asyncio.Future[None]:
        def later() -> None:
            self._tasks.retry_later(index, self._now())

        return self._charge_then(index, "attempt", later)

    def _accept(self, final: list[Record], where: tuple[str, str]) -> asyncio.Future[None]:
        for record in final:
            self._tasks.finish(record.task)
            self._copies.discard(record.task)
        done = self.chain.add_results(final, *where)
        if self._tasks.all_over:
            self.end(Terminal("complete", "", ""))
        return done

    def end(self, terminal: Terminal) -> None:
        """End the job: the terminal record goes into the entry with the last results."""
        if self.over:
            return
        if terminal.outcome == "complete" and not self._needs_more():
            self.chain.close(self._outcome(terminal))
            return
        self._ending = asyncio.create_task(self._end(terminal), name=f"end of {self.spec.name}")

    def _needs_more(self) -> bool:
        return self.log.busy or (self.spec.json_results and self.spec.kind == "map")

    def _outcome(self, terminal: Terminal) -> Terminal:
        """Return `terminal`, or what failed tasks make of it."""
        if terminal.outcome != "complete":
            return terminal
        waiting = self.chain.waiting_records()
        failed = self.failed + sum(record.state != records.SUCCEEDED for record in waiting)
        if not failed:
            return terminal
        reason = "CommandFailed" if self.spec.kind == "command" else "TaskFailed"
        return Terminal("failed", reason, f"{failed} of {self.spec.total} tasks failed")

    async def _end(self, terminal: Terminal) -> None:
        if terminal.outcome == "complete":
            if (before := self.chain.barrier()) is not None:
                await before
            await self.log.flush()
            if self.spec.json_results and self.spec.kind == "map":
                await self._write_results_file()
        else:
            await self.log.flush()
        self.chain.close(self._outcome(terminal))

    async def _write_results_file(self) -> None:
        """Leave the results of a map with JSON arguments for readers without Python."""
        lines = []
        for index in range(self.spec.total):
            record = self._json.get(index)
            if record is not None:
                field = "result" if record.state == records.SUCCEEDED else "error"
                value: Any = (
                    {"object": record.ref.key} if record.ref else json.loads(bytes(record.data))
                )
                lines.append(json.dumps({"index": index, "state": record.state, field: value}))
        key = f"{self.spec.prefix}/results.jsonl"
        for attempt in range(4):
            try:
                await self.store.put(key, "".join(line + "\n" for line in lines).encode())
            except (StorageError, OSError, TimeoutError) as error:
                self._trouble(error)
                await asyncio.sleep(0.5 * 2**attempt)
            else:
                self.results_file = key
                return

    # what became durable

    def _durable(self, entry: ledger.Entry) -> None:
        for record in entry.records:
            if record.state == records.SUCCEEDED:
                self.succeeded += 1
            else:
                self.failed += 1
            if self.spec.json_results and self.spec.kind == "map":
                self._json[record.task] = record
        if self.spec.total == 1 and entry.records:
            self.only_record = entry.records[-1]
        self.log.length = max(self.log.length, entry.logs)
        if entry.terminal is not None:
            self.terminal = entry.terminal
            self.claims.clear()
        self._on_change()

    def _trouble(self, error: Exception | None) -> None:
        if error is None:
            self.problem = None
        elif isinstance(error, Fenced):
            self.problem = ("IdInUse", str(error))
        else:
            self.problem = ("StorageUnavailable", str(error))
        self._on_change()

    def output(self, parts: list[Output]) -> None:
        """Take what tasks printed."""
        if self.terminal is None:
            self.log.add(parts)

    def view(self) -> JobView:
        """Return what is durable of the job."""
        return JobView(
            total=self.spec.total,
            succeeded=self.succeeded,
            failed=self.failed,
            ledger_length=self.chain.length,
            ledger_digest=self.chain.digest if self.chain.length else "",
            logs_length=self.log.length,
            terminal=self.terminal,
            only_record=self.only_record,
            results_file=self.results_file,
            wanted_workers=self.wanted_workers(),
            problem=self.problem,
            claimed=sum(len(claim.left) for claim in self.claims.values()),
            sizes=tuple(sorted(size for size, count in self._demand().items() if size > 1)),
        )

    def stop(self) -> None:
        """Let go of the job: nothing more is written."""
        self.chain.stop()
        self.log.stop()
        if self._ending is not None:
            self._ending.cancel()
