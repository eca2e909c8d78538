"""From a run's events to what the user gets: a result, an exception, TaskResults.

This is where bytes from the bucket are unpickled: only after the ledger's chain was checked
(`shoal.ledger`) or, for results that lie beside it, their digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from shoal.build_log import BuildLog
from shoal.cursor import Cursor, behind_each
from shoal.errors import (
    CommandFailedException,
    LedgerTampered,
    RunMapTasksFailedException,
    ShoalException,
    TaskException,
    job_failed,
)
from shoal.ledger import Entry, Terminal
from shoal.ledger_reader import present
from shoal.machinery import Accepted, Ended, Event, Printed, Run
from shoal.printing import Printer
from shoal.results import JobCompletion, TaskResult
from shoal.troubles import Troubles
from shoal.worker.records import ERROR, EXIT, JSON, OUT_OF_MEMORY, PICKLE, SUCCEEDED, Record

FETCHES = 8
"""Results beside the ledger that are read at the same time ..."""
FETCHED_SIZE = 64 << 20
"""... unless they have more bytes than this together: what was read ahead is held in memory."""

UNPICKLABLE_HERE = "RESULT_CANNOT_BE_UNPICKLED"
BY_TASKS = ("TaskFailed", "CommandFailed")
"""Reasons of a run's end that its tasks' own records explain better."""


async def single(run: Run, *, logs: bool) -> Any:
    """Wait for a function or a command; return its result or JobCompletion, or raise."""
    task, end, terminal = None, None, None
    printer, troubles = Printer(prefixed=False), Troubles(run)
    async with BuildLog(run) as build, aclosing(run.events(logs=logs)) as events:
        async for event in events:
            troubles.observe(event)
            build.observe(event)
            if isinstance(event, Accepted):
                terminal = event.entry.terminal or terminal
                found = [task async for task in _of_entry(run, event.entry)]
                task = found[0] if found else task
            elif isinstance(event, Printed):
                printer.show(event.outputs)
            elif isinstance(event, Ended):
                end = event
    if run.kind == "command":
        return _completion(run, task, end, terminal)
    if task is None:
        raise failure(run, end, terminal)
    return task.result_or_raise()


async def tasks(
    run: Run,
    *,
    logs: bool,
    observe: Callable[[Event], None] | None = None,
    after: Cursor | None = None,
) -> AsyncGenerator[TaskResult[Any], None]:
    """Yield each task's outcome as it becomes durable; raise if the run ended without all.

    With `after`, only those behind it.
    """
    end, terminal, seen = None, None, after.seen if after else 0
    printer, troubles = Printer(prefixed=True), Troubles(run)
    reading = run.events(logs=logs, after=after)
    async with BuildLog(run) as build, aclosing(reading) as events:
        async for event in events:
            troubles.observe(event)
            build.observe(event)
            if observe:
                observe(event)
            if isinstance(event, Accepted):
                terminal = event.entry.terminal or terminal
                async with aclosing(_of_entry(run, event.entry, seen)) as found:
                    async for task in found:
                        seen += 1
                        yield task
                        del task  # it may be large: it goes when its reader lets go of it
            elif isinstance(event, Printed):
                printer.show(event.outputs)
            elif isinstance(event, Ended):
                end = event
    printer.close()
    if seen < run.total:
        raise failure(run, end, terminal, seen)


async def whole(
    run: Run, *, logs: bool, observe: Callable[[Event], None] | None = None
) -> list[Any]:
    """Wait for a map; return its results in the items' order, or raise with all there are."""
    results: list[Any] = [None] * run.total
    failed: list[TaskResult[Any]] = []
    async with aclosing(tasks(run, logs=logs, observe=observe)) as outcomes:
        async for task in outcomes:
            if task.is_success:
                results[task.task_id] = task.result
            else:
                failed.append(task)
    if failed:
        raise RunMapTasksFailedException(results, sorted(failed, key=lambda task: task.task_id))
    return results


def failure(
    run: Run, end: Ended | None, terminal: Terminal | None, seen: int = 0
) -> ShoalException:
    """Return the exception for a run that ended without a result, or with only `seen` of them."""
    if terminal is not None and terminal.error:
        return TaskException(*terminal.error)
    reason = end.reason if end else "Failed"
    message = (end and end.message) or (terminal and terminal.message) or "it ended"
    if run.full_name not in message:
        message = f"{run.full_name}: {message}"
    if seen:
        how = f"results() of shoal.attach({run.name!r}, host) reads them"
        message += f" ({seen} of {run.total} tasks had ended: {how})"
    return job_failed(reason, message)


async def _of_entry(run: Run, entry: Entry, seen: int = 0) -> AsyncGenerator[TaskResult[Any], None]:
    """Yield an entry's tasks in their order; results that lie beside it are fetched ahead.

    `seen` is how many tasks came before them.
    """
    position, cursors = 0, behind_each(entry, seen)
    for part in _parts(entry.records):
        reads = deque(_Read(run, record) for record in part if record.ref)
        try:
            for record in part:
                pod, node = entry.pod_of(position) if entry.pods else ("", "")
                position += 1
                # no name for the bytes: they go when they are unpickled
                yield decoded(
                    run,
                    record,
                    await reads.popleft().data() if record.ref else record.data,
                    pod,
                    node,
                    next(cursors),
                )
        finally:
            for read in reads:
                read.cancel()


class _Read:
    """A result that is read ahead; its bytes are held until they are asked for, and not longer."""

    def __init__(self, run: Run, record: Record) -> None:
        self._found: list[bytes | memoryview] = []
        self._task = asyncio.create_task(self._read(run, record))
        # if the reader has left with another one's error, nobody asks for this one's
        self._task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _read(self, run: Run, record: Record) -> None:
        self._found.append(await _bytes(run, record))  # as the task's result it would stay with it

    async def data(self) -> bytes | memoryview:
        await self._task
        return self._found.pop()

    def cancel(self) -> None:
        self._task.cancel()


def _parts(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Yield runs of records, each as many as are to be fetched at the same time."""
    if not any(record.ref for record in records):
        yield records
        return
    start = size = 0
    for stop, record in enumerate(records):
        more = record.ref.size if record.ref else 0
        if stop > start and (stop - start == FETCHES or size + more > FETCHED_SIZE):
            yield records[start:stop]
            start, size = stop, 0
        size += more
    if start < len(records):
        yield records[start:]


async def _bytes(run: Run, record: Record) -> bytes | memoryview:
    """Return the result's bytes, from beside the ledger only if their digest is right."""
    if record.ref is None:
        return record.data
    data = await present(run.fetch, record.ref.key)
    if hashlib.sha256(data).hexdigest() != record.ref.sha256:
        raise LedgerTampered(
            f"{run.full_name}: {record.ref.key} is not what the worker wrote (its digest differs "
            "from the ledger's); it was not unpickled"
        )
    return data


def decoded(
    run: Run,
    record: Record,
    data: bytes | memoryview,
    pod: str = "",
    node: str = "",
    cursor: str = "",
) -> TaskResult[Any]:
    """Return the record as users see it."""
    state, result, error = record.state, None, None
    if record.state == SUCCEEDED and record.encoding in (PICKLE, JSON):
        try:
            result = pickle.loads(data) if record.encoding == PICKLE else json.loads(bytes(data))
        except Exception as cause:
            state, result = UNPICKLABLE_HERE, bytes(data)
            error = _not_here(cause)
    elif record.encoding == EXIT:
        result = json.loads(bytes(data))
        if record.state == OUT_OF_MEMORY and run.kind != "command":
            message, _, lines = result["lastLines"].partition("\n")
            error = ("OutOfMemory", message, lines)
        elif record.state != SUCCEEDED and run.kind != "command":
            error = ("", f"Non-zero return code: {result['returnCode']}", result["lastLines"])
    elif record.encoding == ERROR:
        type_, message, text = json.loads(bytes(data))
        error = (type_, message, text)
    else:
        error = (record.state, bytes(data).decode(errors="replace"), "")
    return TaskResult(
        task_id=record.task,
        is_success=state == SUCCEEDED,
        state=state,
        result=result,
        exception=error,
        attempt=record.attempt,
        log_file_name=f"{run.full_name}/logs/{record.task}",
        pod=pod,
        node=node,
        peak_memory=record.memory << 20,
        cursor=cursor,
    )


def _not_here(cause: Exception) -> tuple[str, str, str]:
    message = (
        f"the result arrived, but can't be unpickled here: {cause}. Install what it needs on this "
        "machine, or return something simpler; its bytes are in `.result`"
    )
    return type(cause).__name__, message, "".join(traceback.format_exception(cause))


def _completion(
    run: Run, task: TaskResult[Any] | None, end: Ended | None, terminal: Terminal | None
) -> JobCompletion[None]:
    """Return how a command ended, or raise CommandFailedException with its last lines."""
    code, last_lines = end.exit_code if end else None, ""
    if task is not None and task.exception is not None:
        raise TaskException(*task.exception)
    if task is not None and task.result is not None:
        code, last_lines = task.result["returnCode"], task.result.get("lastLines", "")
    if code is None or (code == 0 and end and end.outcome != "complete"):
        raise failure(run, end, terminal)
    if code != 0:
        if not last_lines and end and end.reason in BY_TASKS:
            last_lines = end.message
        raise CommandFailedException(code, last_lines, run.full_name)
    address = "localhost" if run.full_name.startswith("local/") else "kubernetes"
    log = f"{run.full_name}/logs" if task is not None else ""
    return JobCompletion(None, 0, SUCCEEDED, log, address)
