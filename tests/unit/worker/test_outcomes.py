"""What becomes of functions that do not behave, on real worker processes of the Local host."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from shoal.deployment import Deployment
from shoal.hosts import Local
from shoal.local import LocalRunner
from shoal.local_workers import stop_all
from shoal.machinery import Accepted, Call, Ended, Printed
from shoal.worker import outcomes
from shoal.worker.records import Record

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRunner]:
    yield LocalRunner(Local(tmp_path_factory.mktemp("bucket")))
    stop_all()


class Seen:
    """What a run came to."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.printed = b""
        self.end: Ended | None = None
        self.fetch: Callable[[str], Any]

    def value(self, task: int = 0) -> Any:
        record = self.records[task]
        assert record.state == "SUCCEEDED", (record.state, bytes(record.data))
        return pickle.loads(record.data)

    def error(self, task: int = 0) -> tuple[str, Any]:
        record = self.records[task]
        return record.state, json.loads(bytes(record.data))


async def see(runner: LocalRunner, **call: Any) -> Seen:
    if "items" in call:
        call = {"kind": "map", "parallelism": 2, **call}
    call = {"kind": "function", "deployment": Deployment(), **call}
    run = await runner.submit(Call(**call))
    seen = Seen()
    seen.fetch = run.fetch
    async for event in run.events(logs=True):
        if isinstance(event, Accepted):
            for record in event.entry.records:
                assert record.task not in seen.records
                seen.records[record.task] = record
        elif isinstance(event, Printed):
            seen.printed += b"".join(output.text for output in event.outputs)
        elif isinstance(event, Ended):
            seen.end = event
    assert seen.end is not None
    return seen


@pytest.mark.parametrize(
    "value",
    [None, 0, "", [1, {"a": (2, b"3")}], {1, 2}, lambda: 1],
    ids=lambda value: repr(value)[:9],
)
async def test_any_value_comes_back(runner: LocalRunner, value: Any) -> None:
    back = (await see(runner, function=lambda given: given, args=[value])).value()
    assert back() == 1 if callable(value) else back == value


async def test_arguments_and_output(runner: LocalRunner) -> None:
    def function(*args: int, scale: int) -> int:
        print("out", *args)
        print("err", file=sys.stderr)
        os.system("echo from the shell")
        return sum(args) * scale

    seen = await see(runner, function=function, args=[1, 2, 3], kwargs={"scale": 10})
    assert seen.value() == 60
    assert sorted(seen.printed.splitlines()) == [b"err", b"from the shell", b"out 1 2 3"]


async def test_an_importable_name(runner: LocalRunner) -> None:
    assert (await see(runner, function="math.hypot", args=[3, 4])).value() == 5.0


async def test_an_exception_carries_the_remote_traceback(runner: LocalRunner) -> None:
    def deeper(value: int) -> float:
        return 1 / value

    seen = await see(runner, function=lambda: deeper(0))
    state, (kind, message, trace) = seen.error()
    assert (state, kind, message) == ("PYTHON_EXCEPTION", "ZeroDivisionError", "division by zero")
    assert "in deeper" in trace
    assert "_shoal_worker" not in trace
    assert seen.end == Ended("failed", "TaskFailed", "1 of 1 tasks failed")


class _Sly(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def _raise(error: BaseException) -> None:
    raise error


async def test_an_exception_whose_str_raises(runner: LocalRunner) -> None:
    _, (kind, message, _) = (await see(runner, function=lambda: _raise(_Sly()))).error()
    assert kind.endswith("_Sly")
    assert message == "<str() of the exception raised RuntimeError>"


@pytest.mark.parametrize(
    ("code", "number", "text"),
    [
        (0, 0, "sys.exit(0)"),
        (3, 3, "sys.exit(3)"),
        ("no", 1, "sys.exit('no')"),
        (None, 0, "(None)"),
    ],
)
async def test_sys_exit_is_a_failure(
    runner: LocalRunner, code: Any, number: int, text: str
) -> None:
    state, about = (await see(runner, function=sys.exit, args=[code])).error()
    assert state == "NON_ZERO_RETURN_CODE"
    assert about["returnCode"] == number
    assert text in about["lastLines"]


def _die(how: str) -> int:
    print("last words", flush=True)
    if how == "exit":
        os._exit(7)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    return 1


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [("exit", 7, "exit code 7"), ("kill", -9, "SIGKILL"), ("segfault", -11, "SIGSEGV")],
)
async def test_a_death_is_told_by_its_own_task_and_the_others_go_on(
    runner: LocalRunner, how: str, code: int, text: str
) -> None:
    items = ["live"] * 30
    items[11] = how
    seen = await see(runner, function=_die, items=items)
    assert sorted(seen.records) == list(range(30))
    assert [seen.value(task) for task in range(30) if task != 11] == [1] * 29
    state, about = seen.error(11)
    assert (state, about["returnCode"]) == ("NON_ZERO_RETURN_CODE", code)
    assert text in about["lastLines"]
    assert "last words" in about["lastLines"]


async def test_results_that_cannot_be_pickled(runner: LocalRunner) -> None:
    seen = await see(runner, function=lambda n: threading.Lock() if n else n, items=[0, 1])
    assert seen.value(0) == 0
    state, (_, message, _) = seen.error(1)
    assert state == "RESULT_CANNOT_BE_PICKLED"
    assert "the result (lock) can't be pickled" in message


def test_json_has_no_infinity() -> None:
    """A by-name Job's result is JSON, in which NaN and infinities cannot be written."""
    pickler = outcomes.Pickler("")
    for value in (float("nan"), float("inf"), [1, float("-inf")]):
        state, encoding, data = pickler.json(value)
        assert (outcomes.STATES[state], outcomes.ENCODINGS[encoding]) == (
            "RESULT_CANNOT_BE_PICKLED",
            "error",
        )
        assert b"can't be written as JSON" in data


async def test_a_large_result_goes_through_the_bucket(runner: LocalRunner) -> None:
    seen = await see(runner, function=lambda n: b"x" * n, items=[10, 40_000, 5_000_000])
    assert seen.records[0].ref is None
    for task, size in ((1, 40_000), (2, 5_000_000)):
        ref = seen.records[task].ref
        assert ref is not None
        raw = await seen.fetch(ref.key)
        assert len(raw) == ref.size
        assert pickle.loads(raw) == b"x" * size


async def test_items_of_very_different_sizes(runner: LocalRunner) -> None:
    items = [b"a" * size for size in (0, 1, 3_000_000, 10, 1_500_000, 7)] + [b""] * 5_000
    seen = await see(runner, function=len, items=items)
    assert [seen.value(task) for task in range(len(items))] == [len(item) for item in items]


async def test_a_task_that_never_reads_a_signal_and_a_closed_stdout(runner: LocalRunner) -> None:
    def function(n: int) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.close(1)
        os.close(2)
        return n

    seen = await see(runner, function=function, items=[1, 2])
    states = {record.state for record in seen.records.values()}
    assert states <= {"SUCCEEDED", "PYTHON_EXCEPTION", "NON_ZERO_RETURN_CODE"}


async def test_a_failing_import_of_the_function_ends_the_job(runner: LocalRunner) -> None:
    seen = await see(runner, function="no_such_module.f", items=list(range(1000)))
    assert seen.records == {}
    assert seen.end is not None
    assert seen.end.reason == "TaskFailed"
    assert "No module named 'no_such_module'" in seen.end.message
    assert "name an image that has the module" in seen.end.message


@pytest.mark.parametrize(
    ("argv", "code", "tail"),
    [
        (["sh", "-c", "echo one; echo two >&2"], 0, "one\ntwo\n"),
        (["sh", "-c", "echo bad; exit 101"], 101, "bad\n"),
        (["no-such-command"], 127, "no-such-command: No such file or directory"),
    ],
)
async def test_commands(runner: LocalRunner, argv: list[str], code: int, tail: str) -> None:
    seen = await see(runner, kind="command", argv=argv)
    _, about = seen.error()
    assert about == {"returnCode": code, "lastLines": tail}
    assert seen.end is not None
    assert seen.end.outcome == ("complete" if code == 0 else "failed")


async def test_a_command_finds_its_context_variables(runner: LocalRunner) -> None:
    script = (
        "import os, pickle; print(pickle.load(open(os.environ['SHOAL_CONTEXT_VARIABLES'], 'rb')))"
    )
    seen = await see(runner, kind="command", argv=[sys.executable, "-c", script], context={"a": 1})
    assert seen.printed == b"{'a': 1}\n"


async def test_nothing_of_a_job_outlives_it_on_a_warm_worker(
    runner: LocalRunner, tmp_path: Path
) -> None:
    mark = tmp_path / "alive"

    def leave() -> int:
        Path("left-in-the-working-folder").write_text("x")
        pid = os.fork()
        if pid == 0:
            while True:
                mark.write_text(str(time.time()))
                time.sleep(0.01)
        return pid

    def look() -> list[str]:
        return os.listdir()

    pid = (await see(runner, function=leave)).value()
    for _ in range(3):
        assert (await see(runner, function=look)).value() == []
    while not _is_dead(pid):
        await asyncio.sleep(0.01)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_globals_stay_between_tasks_of_a_job_and_not_between_jobs(
    runner: LocalRunner,
) -> None:
    def count(_: int) -> int:
        import builtins

        builtins.counted = getattr(builtins, "counted", 0) + 1  # type: ignore[attr-defined]
        return builtins.counted  # type: ignore[attr-defined, no-any-return]

    for _ in range(2):
        seen = await see(runner, function=count, items=range(5), parallelism=1)
        assert [seen.value(task) for task in range(5)] == [1, 2, 3, 4, 5]


async def test_asyncio_run_works_in_a_function(runner: LocalRunner) -> None:
    def function() -> int:
        import asyncio

        async def inner() -> int:
            return 5

        return asyncio.run(inner())

    assert (await see(runner, function=function)).value() == 5


async def test_a_failed_task_is_tried_as_often_as_was_asked(
    runner: LocalRunner, tmp_path: Path
) -> None:
    def flaky(n: int) -> int:
        path = tmp_path / str(n)
        tries = int(path.read_text()) if path.exists() else 0
        path.write_text(str(tries + 1))
        if tries < n:
            raise RuntimeError(f"try {tries + 1}")
        return tries

    seen = await see(runner, function=flaky, items=[0, 1, 5], max_attempts=2)
    assert (seen.value(0), seen.value(1)) == (0, 1)
    assert [seen.records[task].attempt for task in range(3)] == [1, 2, 2]
    assert seen.error(2)[1][1] == "try 2"
