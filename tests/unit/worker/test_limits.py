"""Limits of a task: its time, and what is known of its memory."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pytest
from worker_stand import Stand, is_dead

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MIB = 1 << 20


def stubborn(seconds: float) -> float:
    """Take `seconds` and ignore every signal that can be ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(seconds)
    return seconds


def test_a_task_that_takes_too_long_is_killed_and_the_others_run(stand: Stand) -> None:
    job = stand.map(stubborn, [0.0, 60.0, 0.01, 60.0, 0.02], timeout=0.5)
    began = time.monotonic()
    outcomes = stand.run(job, range(5))
    assert [outcomes[task].value for task in (0, 2, 4)] == [0.0, 0.01, 0.02]
    for task in (1, 3):
        assert outcomes[task].state == "TIMED_OUT"
        assert outcomes[task].record.encoding == "error"
        assert outcomes[task].error == ["TaskTimeout", "the task took longer than its 0.5 s", ""]
        assert outcomes[task].record.memory > 5
    # each within 50 ms, and a process takes a moment to begin on a machine that is busy
    assert 1.0 <= outcomes[4].at - began < 3.0


def test_the_time_begins_with_the_task_not_with_its_modules(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "slow_module.py").write_text(
        "import time\ntime.sleep(0.8)\n\ndef double(n):\n    return 2 * n\n"
    )
    job = stand.map("slow_module.double", [1, 2], timeout=0.4)
    assert [one.value for one in stand.run(job, range(2)).values()] == [2, 4]


def test_no_task_is_late_for_waiting_for_its_turn(stand: Stand) -> None:
    job = stand.map(stubborn, [0.2] * 6, timeout=0.6)
    outcomes = stand.run(job, range(6))
    assert [one.value for one in outcomes.values()] == [0.2] * 6


def test_the_whole_tree_of_a_late_command_dies(stand: Stand, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        f"trap '' TERM; echo $$ >> {pids}; (sh -c 'echo $$ >> {pids}; sleep 600') & "
        f"setsid sh -c 'trap \"\" TERM; echo $$ >> {pids}; sleep 600' & sleep 600"
    )
    outcome = stand.run(stand.command("sh", "-c", script, timeout=1.0))[0]
    assert (outcome.state, outcome.record.encoding) == ("TIMED_OUT", "error")
    assert outcome.error[0] == "TaskTimeout"
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 3
    assert all(map(is_dead, found))


def test_a_job_without_a_limit_has_none(stand: Stand) -> None:
    assert stand.run(stand.call(stubborn, 0.3))[0].value == 0.3


def test_each_task_is_charged_with_its_own_peak(stand: Stand) -> None:
    def fill(size: int) -> int:
        return len(bytearray(size * MIB).replace(b"x", b"y")) // MIB if size else 0

    sizes = [0, 200, 0, 50, 0, 100]

    def slow(size: int) -> int:
        time.sleep(0.002)  # a task shorter than a millisecond is not measured
        return fill(size)

    outcomes = stand.run(stand.map(slow, sizes), range(len(sizes)))
    peaks = [outcomes[task].record.memory for task in range(len(sizes))]
    base = peaks[0]
    assert 5 < base < 100
    for size, peak in zip(sizes, peaks, strict=True):
        # bytearray and its copy
        assert 2 * size - 5 <= peak - base <= 2 * size + 25, peaks


def test_short_tasks_have_a_peak_too(stand: Stand) -> None:
    outcomes = stand.run(stand.map(lambda n: n, range(500)), range(500))
    assert all(5 < one.record.memory < 100 for one in outcomes.values())


def test_the_peak_of_a_command_is_that_of_its_processes(stand: Stand) -> None:
    script = f"x = bytearray({150 * MIB}); x[::4096] = b'1' * len(x[::4096])"
    outcome = stand.run(stand.command(sys.executable, "-c", script))[0]
    assert 150 <= outcome.record.memory < 250


@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_a_task_that_dies_has_its_peak(stand: Stand, how: str) -> None:
    def die(how: str) -> None:
        held = bytearray(120 * MIB)
        held[::4096] = b"1" * len(held[::4096])
        if how == "exit":
            os._exit(3)
        ctypes.string_at(0)

    outcome = stand.run(stand.map(die, [how]))[0]
    assert outcome.state == "NON_ZERO_RETURN_CODE"
    assert 120 <= outcome.record.memory < 220


def test_a_program_that_a_task_ran_counts(stand: Stand) -> None:
    def run(size: int) -> None:
        script = f"x = bytearray({size * MIB}); x[::4096] = b'1' * len(x[::4096])"
        subprocess.run([sys.executable, "-c", script], check=True)

    outcomes = stand.run(stand.map(run, [10, 160, 10]), range(3))
    peaks = [outcomes[task].record.memory for task in range(3)]
    assert 160 <= peaks[1] < 260
    assert max(peaks[0], peaks[2]) < 100
