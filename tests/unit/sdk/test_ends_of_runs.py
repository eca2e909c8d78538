"""What a caller gets for each way in which a run can end; the run is a list of events here."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from shoal import errors, outcome
from shoal.cursor import Cursor
from shoal.ledger import Entry, Terminal
from shoal.machinery import Accepted, Ended, Event, Kind, Observed
from shoal.worker.records import ERROR, EXIT, NON_ZERO_RETURN_CODE, PICKLE, SUCCEEDED, Record, Ref


class Told:
    """A run whose events are given; objects beside the ledger are in `beside`."""

    def __init__(self, kind: Kind, *events: Event, total: int = 1) -> None:
        self.kind, self.total, self.told = kind, total, events
        self.name, self.full_name = "x", "jobs.shoal.dev/x"
        self.beside: dict[str, bytes] = {}

    async def events(
        self, *, logs: bool, results: bool = True, after: Cursor | None = None
    ) -> AsyncGenerator[Event, None]:
        for event in self.told:
            yield event

    async def fetch(self, key: str) -> bytes:
        return self.beside[key]

    async def status(self) -> Mapping[str, Any]:
        return {}

    async def cancel(self) -> None: ...

    async def delete(self) -> None: ...


def entry(*records: Record, terminal: Terminal | None = None) -> Accepted:
    return Accepted(Entry(n=0, prev="", records=records, terminal=terminal))


COMPLETE = Ended("complete", "Complete", "done")


@pytest.mark.parametrize("reason", sorted(errors.JobFailedException.by_reason))
async def test_a_reason_of_the_closed_list_is_its_exception(reason: str) -> None:
    run = Told("function", Ended("failed", reason, "why it is so"))
    with pytest.raises(errors.JobFailedException, match="why it is so") as caught:
        await outcome.single(run, logs=False)
    assert type(caught.value).__name__ == reason
    assert "jobs.shoal.dev/x" in str(caught.value)


async def test_a_function_that_could_not_be_loaded_has_its_remote_traceback() -> None:
    error = ("ModuleNotFoundError", "No module named 'x'", "Traceback ...")
    terminal = Terminal("failed", "TaskFailed", "it failed", error)
    run = Told("function", entry(terminal=terminal), Ended("failed", "TaskFailed", "it failed"))
    with pytest.raises(errors.TaskException, match=r"No module named 'x'[\s\S]*Traceback"):
        await outcome.single(run, logs=False)


async def test_a_command_without_a_bucket_has_its_exit_code_from_the_status() -> None:
    done = await outcome.single(
        Told("command", Ended("complete", "Complete", "done", 0)), logs=False
    )
    assert (done.return_code, done.log_file_name) == (0, "")
    run = Told("command", Ended("failed", "CommandFailed", "exit code 3: see kubectl logs", 3))
    with pytest.raises(errors.CommandFailedException, match="see kubectl logs") as caught:
        await outcome.single(run, logs=False)
    assert caught.value.return_code == 3


async def test_a_command_whose_image_is_not_there() -> None:
    run = Told("command", Ended("failed", "ImagePullFailed", "no such image"))
    with pytest.raises(errors.JobFailedException, match="no such image"):
        await outcome.single(run, logs=False)


async def test_a_command_has_the_last_lines_of_the_worker() -> None:
    data = json.dumps({"returnCode": 4, "lastLines": "the end"}).encode()
    record = Record(0, 1, NON_ZERO_RETURN_CODE, EXIT, data)
    run = Told("command", entry(record), Ended("failed", "CommandFailed", "it failed"))
    with pytest.raises(errors.CommandFailedException, match="the end") as caught:
        await outcome.single(run, logs=False)
    assert caught.value.return_code == 4


async def test_a_map_that_was_cut_short_gives_what_there_is_and_then_says_why() -> None:
    record = Record(1, 1, SUCCEEDED, PICKLE, pickle.dumps("one"))
    run = Told("map", entry(record), Ended("failed", "DeadlineExceeded", "time is over"), total=2)
    seen = []
    with pytest.raises(errors.JobFailedException, match="DeadlineExceeded") as caught:
        async for task in outcome.tasks(run, logs=False):
            seen.append((task.task_id, task.result))
    assert seen == [(1, "one")]
    how = "(1 of 2 tasks had ended: results() of shoal.attach('x', host) reads them)"
    assert str(caught.value).endswith(how)


async def test_a_result_beside_the_ledger_is_unpickled_only_with_the_right_digest() -> None:
    data = pickle.dumps("large")
    ref = Ref("results/x", hashlib.sha256(data).hexdigest(), len(data))
    run = Told("function", entry(Record(0, 1, SUCCEEDED, PICKLE, b"", ref)), COMPLETE)
    run.beside["results/x"] = data
    assert await outcome.single(run, logs=False) == "large"
    run.beside["results/x"] = pickle.dumps("other")
    with pytest.raises(errors.JobFailedException, match="results/x is not what the worker wrote"):
        await outcome.single(run, logs=False)


async def test_an_error_of_a_task_is_an_error_here() -> None:
    data = json.dumps(["ValueError", "no", "Traceback ..."]).encode()
    run = Told("function", entry(Record(0, 1, "PYTHON_EXCEPTION", ERROR, data)), COMPLETE)
    with pytest.raises(errors.TaskException, match="ValueError: no"):
        await outcome.single(run, logs=False)


async def test_what_holds_a_run_up_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    condition = {
        "type": "WorkersReady",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available",
    }
    waiting = Observed({"phase": "Pending", "conditions": [condition]})
    starting = Observed({"phase": "Pending", "conditions": [condition | {"reason": "Pending"}]})
    record = Record(0, 1, SUCCEEDED, PICKLE, pickle.dumps(None))
    run = Told("function", starting, waiting, waiting, entry(record), COMPLETE)
    with caplog.at_level(logging.WARNING, "shoal"):
        await outcome.single(run, logs=False)
    assert [record.getMessage() for record in caplog.records] == [
        "jobs.shoal.dev/x waits (Unschedulable): 0/2 nodes are available"
    ]


async def test_one_failure_among_ten_thousand_costs_one_result() -> None:
    records = [Record(n, 1, SUCCEEDED, PICKLE, pickle.dumps(n)) for n in range(10_000)]
    traceback = "Traceback ...\n" + "  a line of it\n" * 100_000
    error = json.dumps(["ValueError", "not this one", traceback]).encode()
    records[4321] = Record(4321, 2, "PYTHON_EXCEPTION", ERROR, error)
    run = Told("map", entry(*records), COMPLETE, total=10_000)
    with pytest.raises(errors.RunMapTasksFailedException) as caught:
        await outcome.whole(run, logs=False)
    again = pickle.loads(pickle.dumps(caught.value))
    for error_ in (caught.value, again):
        assert error_.results == [n if n != 4321 else None for n in range(10_000)]
        [failed] = error_.failed
        assert (failed.task_id, failed.attempt, failed.exception[1]) == (4321, 2, "not this one")
        assert failed.exception[2] == traceback
        assert "1 of 10000 tasks failed" in str(error_)
        assert "ValueError: not this one" in str(error_)
        assert max(len(str(error_)), len(repr(error_))) < 4000


OOM = {"returnCode": -9, "lastLines": "the Pod's memory was used up\nlast words\n"}


@pytest.mark.parametrize(
    "state, encoding, told, shown",
    [
        (
            "TIMED_OUT",
            ERROR,
            ["TaskTimeout", "the task took longer than its 5 s", ""],
            "TaskTimeout: the task took longer than its 5 s",
        ),
        (
            "OUT_OF_MEMORY",
            EXIT,
            OOM,
            "OutOfMemory: the Pod's memory was used up\n\nRemote traceback:\nlast words",
        ),
        (
            "OUT_OF_MEMORY",
            ERROR,
            ["OutOfMemory", "no larger node", ""],
            "OutOfMemory: no larger node",
        ),
        ("WORKER_LOST", ERROR, ["WorkerLost", "lost 6 times", ""], "WorkerLost: lost 6 times"),
    ],
)
async def test_what_a_task_died_of_reads_well(
    state: str, encoding: str, told: Any, shown: str
) -> None:
    record = Record(0, 2, state, encoding, json.dumps(told).encode(), None, 300)
    run = Told("map", entry(record), COMPLETE)
    [task] = [task async for task in outcome.tasks(run, logs=False)]
    assert (task.state, task.is_success, task.attempt) == (state, False, 2)
    assert task.peak_memory == 300 << 20
    with pytest.raises(errors.TaskException) as caught:
        task.result_or_raise()
    assert str(caught.value) == shown


async def test_a_result_tells_where_it_was_made_and_where_its_log_is() -> None:
    record = Record(0, 1, SUCCEEDED, PICKLE, pickle.dumps(7), None, 12)
    made = Accepted(Entry(n=0, prev="", records=[record], pods=[(1, "pod-a", "node-b")]))
    [task] = [task async for task in outcome.tasks(Told("function", made, COMPLETE), logs=False)]
    assert (task.pod, task.node, task.peak_memory) == ("pod-a", "node-b", 12 << 20)
    assert task.log_file_name == "jobs.shoal.dev/x/logs/0"
