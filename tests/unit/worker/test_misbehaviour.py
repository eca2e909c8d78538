"""Functions that damage their process: each is a failure of its own task, and nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from worker_stand import Stand, is_dead

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def close_everything(_: int) -> None:
    os.closerange(3, 1000)


def close_everything_and_stay(_: int) -> None:
    os.closerange(3, 1000)
    time.sleep(600)


def exit_quietly(_: int) -> None:
    os._exit(0)


def exit_in_a_thread(_: int) -> None:
    threading.Thread(target=os._exit, args=(5,)).start()
    time.sleep(600)


def kill_itself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_its_group(_: int) -> None:
    os.killpg(0, signal.SIGTERM)
    time.sleep(600)


def write_into_every_pipe(_: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.write(int(name), b"rubbish" * 100)
            except OSError:
                continue
    time.sleep(600)


def abort(_: int) -> None:
    import ctypes

    ctypes.CDLL(None).abort()


@pytest.mark.parametrize(
    ("harm", "code", "text"),
    [
        (close_everything, 1, "exit code 1"),
        (close_everything_and_stay, -9, "closed the pipe for results"),
        (exit_quietly, 0, "exit code 0 before the task returned"),
        (exit_in_a_thread, 5, "exit code 5"),
        (kill_itself, -9, "SIGKILL"),
        (kill_its_group, -15, "SIGTERM"),
        (write_into_every_pipe, -9, "wrote into the pipe for results"),
        (abort, -6, "SIGABRT"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_death_is_a_failure_of_its_task_alone(
    stand: Stand, harm: Callable[[int], None], code: int, text: str
) -> None:
    def run(n: int) -> int:
        if n == 2:
            print("last words", flush=True)
            harm(n)
        return n

    outcomes = stand.run(stand.map(run, range(5)), range(5))
    assert [outcomes[task].value for task in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert outcomes[2].state == "NON_ZERO_RETURN_CODE"
    assert outcomes[2].error["returnCode"] == code
    assert text in outcomes[2].error["lastLines"]
    assert "last words" in outcomes[2].error["lastLines"]
    assert outcomes[2].record.memory > 0


def test_standard_streams_that_a_task_closed_are_given_back(stand: Stand) -> None:
    def run(n: int) -> int:
        print(f"task {n}")
        if n == 1:
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            time.sleep(0.01)
        return n

    outcomes = stand.run(stand.map(run, range(3)), range(3))
    assert [outcomes[task].value for task in range(3)] == [0, 1, 2]
    assert stand.output == {(task, 1): b"task %d\n" % task for task in range(3)}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_task_that_replaces_a_stream(stand: Stand, name: str) -> None:
    def run(n: int) -> int:
        if n == 0:
            setattr(sys, name, None)
        elif n == 1:
            setattr(sys, name, object())
        elif n == 2:
            setattr(sys, name, getattr(sys, f"__{name}__"))
            getattr(sys, name).close()
        return n

    outcomes = stand.run(stand.map(run, range(4)), range(4))
    assert [outcomes[task].value for task in range(4)] == [0, 1, 2, 3]


def test_a_task_that_forks_and_returns_twice(stand: Stand) -> None:
    def run(n: int) -> tuple[int, bool]:
        return n, os.fork() == 0

    outcomes = stand.run(stand.map(run, range(5)), range(5))
    assert [outcomes[task].value for task in range(5)] == [(n, False) for n in range(5)]


def test_an_exception_of_a_class_that_only_the_task_knows(stand: Stand) -> None:
    def run(_: int) -> None:
        kind = type("Homemade", (Exception,), {"__module__": "nowhere.at_all"})
        raise kind("it broke", threading.Lock())

    kind, message, trace = stand.run(stand.map(run, [0]))[0].error
    assert kind == "nowhere.at_all.Homemade"
    assert message.startswith("('it broke', <unlocked")
    assert "in run" in trace


class _Sly(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


class _Unpicklable:
    def __reduce__(self) -> Any:
        raise _Sly


def test_a_result_whose_pickling_raises_what_cannot_be_told(stand: Stand) -> None:
    outcome = stand.run(stand.map(lambda _: _Unpicklable(), [0]))[0]
    assert outcome.state == "RESULT_CANNOT_BE_PICKLED"
    assert outcome.error[1] == (
        "the result (_Unpicklable) can't be pickled: <str() of the exception raised RuntimeError>"
    )


def test_none_is_a_result(stand: Stand) -> None:
    assert stand.run(stand.map(lambda _: None, [0]))[0].value is None


def test_a_job_that_ends_while_its_task_ignores_signals(stand: Stand, tmp_path: Path) -> None:
    def run(_: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        (tmp_path / "pid.part").write_text(str(os.getpid()))
        os.rename(tmp_path / "pid.part", tmp_path / "pid")
        time.sleep(600)

    job = stand.map(run, [0])
    stand.claim(job)
    while not (tmp_path / "pid").exists():
        assert stand.process.poll() is None
    assert stand.note.read_text().split() == [job, "0", "1"]
    stand.gone(job)
    assert stand.run(stand.call(os.getpid))[0].state == "SUCCEEDED"
    assert is_dead(int((tmp_path / "pid").read_text()))
    assert stand.note.read_text().strip() == ""


def test_the_note_of_a_task_that_died_is_cleared(stand: Stand) -> None:
    stand.run(stand.map(exit_quietly, [0]))
    assert stand.note.read_text().strip() == ""


def leave_processes(folder: Path) -> list[int]:
    """Leave a tree of processes in sessions of their own, some without a parent."""
    for n in range(12):
        if os.fork() == 0:
            if n % 2:
                os.setsid()
            if os.fork() and n % 3:
                os._exit(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (folder / f"pid{os.getpid()}").touch()
            time.sleep(600)
    while len(list(folder.glob("pid*"))) < 16:
        time.sleep(0.002)
    return [int(path.name[3:]) for path in folder.glob("pid*")]


def test_processes_left_behind_are_dead_before_the_next_job(stand: Stand, tmp_path: Path) -> None:
    job = stand.call(leave_processes, tmp_path)
    pids = stand.run(job)[0].value
    assert len(pids) == 16
    stand.gone(job)
    stand.run(stand.call(os.getpid))
    assert all(map(is_dead, pids))


def test_processes_of_a_task_that_died_are_dead_before_the_next_task(
    stand: Stand, tmp_path: Path
) -> None:
    def run(n: int) -> list[int]:
        if n == 0:
            leave_processes(tmp_path)
            os._exit(1)
        return [int(path.name[3:]) for path in tmp_path.glob("pid*")]

    pids = stand.run(stand.map(run, range(2)), range(2))[1].value
    assert len(pids) == 16
    assert all(map(is_dead, pids))


def test_a_command_ends_with_its_process_not_with_what_that_left(stand: Stand) -> None:
    began = time.monotonic()
    outcome = stand.run(stand.command("sh", "-c", "sleep 30 & echo started"))[0]
    assert outcome.error == {"returnCode": 0, "lastLines": "started\n"}
    assert time.monotonic() - began < 20


def test_a_child_in_stock_that_a_task_kills_is_replaced(stand: Stand) -> None:
    def run(_: int) -> int:
        victims: list[int] = []
        while not victims:
            children = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text()
            victims = [int(pid) for pid in children.split() if int(pid) != os.getpid()]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        return len(victims)

    first = stand.map(run, range(2))
    assert stand.run(first)[0].value >= 1
    stand.gone(first)
    second = stand.call(os.getpid)
    assert stand.run(second)[0].state == "SUCCEEDED"
    stand.gone(second)
    assert stand.run(stand.call(os.getpid))[0].state == "SUCCEEDED"


def test_a_job_that_comes_back_at_once(stand: Stand) -> None:
    """Suspended and resumed: what was claimed after that is run, what was before is not."""

    def run(n: int) -> int:
        if n == 0:
            time.sleep(600)
        return n

    job = stand.map(run, range(100))
    stand.claim(job, range(100))
    stand.gone(job)
    outcomes = stand.run(job, range(1, 100))
    assert [one.value for one in outcomes.values()] == list(range(1, 100))
    assert {one.claim for one in outcomes.values()} == {"claim2"}


def test_programs_that_a_task_runs_do_not_get_its_pipes(stand: Stand) -> None:
    def run(_: int) -> list[str]:
        listing = subprocess.run(
            ["ls", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True
        )
        return listing.stdout.split()

    # the last one is of ls itself
    assert stand.run(stand.map(run, [0]))[0].value == ["0", "1", "2", "3"]


def test_what_looks_like_an_outcome_is_not_one(stand: Stand) -> None:
    """Of another task, written where outcomes are expected."""

    def run(n: int) -> None:
        if n == 1:
            return
        forged = struct.pack("!QIBBIdQ", 1, 1, 0, 1, 0, 0.0, 4) + json.dumps(None).encode()
        for name in os.listdir("/proc/self/fd"):
            try:
                if int(name) > 2 and "pipe" in os.readlink(f"/proc/self/fd/{name}"):
                    os.write(int(name), forged)
            except OSError:
                continue
        time.sleep(600)

    outcomes = stand.run(stand.map(run, range(2)), range(2))
    assert outcomes[0].state == "NON_ZERO_RETURN_CODE"
    assert outcomes[1].value is None
