"""One job while it runs: from the claim of a task to its durable outcome.

Its end has four steps: nothing more is claimed (`over`), the last record is added (`chain.closed`),
it is durable (`terminal`), and the owner detaches the job.

Joins the bookkeeping of `tasks`, the claims, the ledger's writer and the log. It knows no worker
sessions and no HTTP; `dispatcher` asks it for claims and gives it what workers report.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Literal

from shoal import ledger
from shoal.dispatch.assignment import Assignment
from shoal.dispatch.chain import Fenced, LedgerWriter
from shoal.dispatch.claims import Claim
from shoal.dispatch.logbook import Logbook, Output
from shoal.dispatch.model import JobSpec, JobStore, JobView, WorkerIdentity
from shoal.dispatch.results_file import ResultsFile
from shoal.dispatch.tasks import Tasks
from shoal.errors import LedgerTampered
from shoal.ledger import Charge, Terminal
from shoal.ledger_reader import LedgerReader
from shoal.worker import records
from shoal.worker.records import Record

_log = logging.getLogger(__name__)

Cause = Literal["disruption", "oom"]

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
        self.problem: tuple[str, str] | None = None
        self.terminal: Terminal | None = None
        self.succeeded = self.failed = 0
        self.only_record: Record | None = None
        is_read_without_python = spec.json_results and spec.kind == "map"
        self.file = ResultsFile(spec) if is_read_without_python else None
        self._secret, self._now = secret, now
        self._on_change, self._on_work = on_change, on_work
        self._tasks = Tasks(
            spec.total,
            max_attempts=spec.max_attempts,
            max_disruptions=spec.max_disruptions,
            backoff=spec.backoff,
            sized=spec.more_memory and sized is not None,
        )
        self.work = Assignment(spec, self._tasks, pool, sized=sized, on_work=on_work, now=now)
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
        if self.file is not None and self.terminal is not None and self.all_over:
            await self.file.write(self.store, self._trouble)  # nobody was told of it yet

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

    @property
    def all_over(self) -> bool:
        """Whether every task has its outcome."""
        return self._tasks.all_over

    @property
    def over(self) -> bool:
        """Whether the job has ended, or is about to."""
        return self.work.closed

    def lose(
        self,
        worker: str,
        why: str,
        *,
        running: int | None,
        unknown: bool,
        elsewhere: bool = False,
        cause: Cause = "disruption",
        where: tuple[str, str] = ("", ""),
    ) -> None:
        """Put all that a lost worker held back in line; one task at the most is charged for it.

        `running` is the task that was running as far as anybody knows, by default the first;
        `unknown` says that nobody knows and one of them may be what killed the worker. Where the
        culprit is not known, each is reissued alone, and nothing is charged unless there is only
        one; with `elsewhere` it was a task of another job, and nothing is charged. The memory's end
        costs an attempt, any other loss a disruption; a task that another worker has, too, costs
        nothing. `where` was the worker (Pod, node).
        """
        claims = list(self.work.claims.of(worker))
        left = [index for claim in claims for index in self.work.take_back(claim)]
        self.work.lost(worker)
        if self.over or not left:
            return
        nobody_knows = running is None and not elsewhere
        if nobody_knows and (not unknown or len(left) == 1):
            running = left[0]
        apart = running not in left
        if running in left:
            left.remove(running)
            if cause == "oom":
                self._out_of_memory(running, where)
            else:
                self._disrupted(running, why, where)
        self._tasks.put_back(left, apart=apart)
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
        self._tasks.charging.add(index)

        def durable(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._tasks.charging.discard(index)
                if not self._tasks.is_over(index):  # a claim that was given up brought a result
                    self._tasks.charge(index, kind)
                    then()
                self._on_work()
                self._on_change()  # larger workers may be wanted, since the entry was told

        done.add_done_callback(durable)
        return done

    # reports

    def report(
        self, worker: WorkerIdentity, claim_id: str, outcomes: list[Record], *, seconds: float
    ) -> list[asyncio.Future[None]]:
        """Take a worker's outcomes; they are durable when all that is returned is done.

        What is returned raises Fenced if somebody else writes this job's ledger: then the outcomes
        are not accepted.

        Raises:
            ValueError: an outcome names an object that is not this worker's.
        """
        self._check(worker, outcomes)
        if self.chain.closed:  # nothing follows the terminal record
            return [asyncio.ensure_future(self.settled())]
        claim = self.work.claims.get(claim_id)
        final, again = self._sort(claim, outcomes)
        waits = [self._retry(task) for task in again]
        self._tasks.timed(len(outcomes), seconds)
        if claim is not None:
            self.work.reported(claim)
        if final:
            waits.append(self._accept(final, (worker.pod, worker.node)))
        elif (before := self.chain.barrier()) is not None:
            waits.append(before)
        return waits

    def is_unknown_failure(self, claim_id: str, outcomes: list[Record]) -> bool:
        """Tell whether some outcome is a failure, in a claim that is not known."""
        known = self.work.claims.get(claim_id) is not None
        return not known and any(record.state != records.SUCCEEDED for record in outcomes)

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
            if failed and (not current or self.work.is_copied(record.task)):
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
        if self.spec.more_memory and short and record.state not in (*_FINAL, records.TIMED_OUT):
            return record._replace(state=records.OUT_OF_MEMORY)
        return record

    def _retry(self, index: int) -> asyncio.Future[None]:
        def later() -> None:
            self._tasks.retry_later(index, self._now())

        return self._charge_then(index, "attempt", later)

    def _accept(self, final: list[Record], where: tuple[str, str]) -> asyncio.Future[None]:
        final = [record for record in final if self._tasks.finish(record.task)]
        for record in final:
            self.work.finish(record.task)
        done = self.chain.add_results(final, *where)
        if self._tasks.all_over:
            self.end(Terminal("complete", "", ""))
        return done

    def end(self, terminal: Terminal) -> None:
        """End the job: the terminal record goes into the entry with the last results."""
        if self.over:
            return
        self.work.close()
        if terminal.outcome == "complete" and not self._needs_more():
            self.chain.close(self._outcome(terminal))
            return
        self._ending = asyncio.create_task(self._end(terminal), name=f"end of {self.spec.name}")

    async def settled(self) -> None:
        """Wait until all that was said of the job, its end included, is durable."""
        if self._ending is not None:
            await asyncio.shield(self._ending)
        if (last := self.chain.barrier()) is not None:
            await asyncio.shield(last)

    def _needs_more(self) -> bool:
        return self.log.busy or self.file is not None

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
        try:
            if terminal.outcome == "complete" and (before := self.chain.barrier()) is not None:
                await before
            await self.log.flush()
            if terminal.outcome == "complete" and self.file is not None:
                await self.file.write(self.store, self._trouble)
        except Fenced:
            raise
        except Exception:
            # whatever it is: a job must have an end
            _log.exception("%s: what belongs to its end could not be written", self.spec.name)
        self.chain.close(self._outcome(terminal))

    # what became durable

    def _durable(self, entry: ledger.Entry) -> None:
        for record in entry.records:
            if record.state == records.SUCCEEDED:
                self.succeeded += 1
            else:
                self.failed += 1
            if self.file is not None:
                self.file.add(record)
        if self.spec.total == 1 and entry.records:
            self.only_record = entry.records[-1]
        self.log.length = max(self.log.length, entry.logs)
        if entry.terminal is not None:
            self.terminal = entry.terminal
            self.work.close()
            self.work.claims.clear()
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
            results_file=self.file.key if self.file is not None and self.file.written else "",
            wanted_workers=self.work.wanted_workers(),
            problem=self.problem,
            claimed=sum(len(claim.left) for claim in self.work.claims.values()),
            suspended=self.work.suspended,
            sizes=self.work.larger_sizes(),
        )

    def stop(self) -> None:
        """Let go of the job: nothing more is written."""
        self.chain.stop()
        self.log.stop()
        if self._ending is not None:
            self._ending.cancel()
