"""Every byte that is printed belongs to one task attempt, in the bucket and in the Pod's log."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pytest
from worker_stand import Stand

from shoal.worker import outbox, output
from shoal.worker.output import Label, Splitter

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_what_short_tasks_print_is_theirs(stand: Stand) -> None:
    def speak(n: int) -> None:
        if n % 3:
            print(f"out {n}")
        if n % 5 == 0:
            print(f"err {n}", file=sys.stderr)
        if n % 100 == 0:
            os.system(f"echo shell {n}")

    count = 2_000
    stand.run(stand.map(speak, range(count)), range(count))
    for n in range(count):
        lines = stand.output.get((n, 1), b"").decode().splitlines()
        expected = [f"out {n}"] * bool(n % 3) + [f"err {n}"] * (n % 5 == 0)
        assert sorted(lines) == sorted(expected + [f"shell {n}"] * (n % 100 == 0))


def test_lines_of_a_map_name_their_task_in_the_pods_log(stand: Stand) -> None:
    def speak(n: int) -> None:
        print(f"one {n}\ntwo {n}")
        print("no end", end="")

    job = stand.map(speak, [0, 1])
    stand.run(job, [0])
    stand.run(job, [1], attempt=2)
    assert stand.log.read_text() == (
        "[task 0] one 0\n[task 0] two 0\n[task 0] no end\n"
        "[task 1, attempt 2] one 1\n[task 1, attempt 2] two 1\n[task 1, attempt 2] no end"
    )
    assert stand.output == {(0, 1): b"one 0\ntwo 0\nno end", (1, 2): b"one 1\ntwo 1\nno end"}


def test_a_single_call_prints_as_it_is(stand: Stand) -> None:
    stand.run(stand.call(print, "hello"))
    stand.run(stand.command("echo", "world"))
    assert stand.log.read_text() == "hello\nworld\n"


def test_output_is_live(stand: Stand, tmp_path: Path) -> None:
    def speak(_: int) -> None:
        sys.stdout.buffer.write(b"ready\0")
        sys.stdout.flush()
        while not (tmp_path / "go").exists():
            time.sleep(0.002)

    stand.claim(stand.map(speak, [0]))
    # a byte that a mark may begin with waits for the next one
    stand.until(lambda: stand.output.get((0, 1)) == b"ready")
    assert stand.log.read_text() == "[task 0] ready"
    (tmp_path / "go").touch()
    stand.until(lambda: stand.outcomes)


def test_what_an_import_prints_is_the_first_tasks(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "loud_module.py").write_text("print('importing')\nname = repr\n")
    stand.run(stand.map("loud_module.name", "abc"), [2, 0, 1])
    assert stand.output == {(2, 1): b"importing\n"}


def test_an_import_that_fails_leaves_its_output(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "bad_module.py").write_text("print('why')\nraise ValueError\n")
    stand.claim(stand.map("bad_module.name", "abc"), range(3))
    stand.until(lambda: stand.fatal and stand.output)
    assert stand.output == {(0, 1): b"why\n"}


def test_a_pipe_that_a_task_made_non_blocking(stand: Stand) -> None:
    def speak(n: int) -> int:
        os.set_blocking(1, False)
        return sum(os.write(1, b"x" * 10) for _ in range(100)) + n

    job = stand.map(speak, range(200))
    outcomes = stand.run(job, range(200))
    assert {one.state for one in outcomes.values()} <= {"SUCCEEDED", "PYTHON_EXCEPTION"}
    for task, outcome in outcomes.items():
        if outcome.state == "SUCCEEDED":
            assert stand.output[task, 1] == b"x" * 1_000
        else:  # its own write found the pipe full
            assert outcome.error[0] == "BlockingIOError"


def test_print_into_a_full_pipe_that_does_not_block(stand: Stand) -> None:
    def speak(n: int) -> None:
        os.set_blocking(1, False)
        print("x" * 500_000)
        sys.stdout.write("y" * 8_000)

    outcomes = stand.run(stand.map(speak, range(20)), range(20))
    assert {one.state for one in outcomes.values()} == {"SUCCEEDED"}
    expected = b"x" * 500_000 + b"\n" + b"y" * 8_000
    assert [task for task in range(20) if stand.output[task, 1] != expected] == []


def test_a_task_that_prints_very_much(stand: Stand) -> None:
    def speak(_: int) -> int:
        line = b"0123456789" * 10_000 + b"\n"
        for _ in range(2_000):
            os.write(1, line)
        return len(line) * 2_000

    outcomes = stand.run(stand.map(speak, [0, 1]), range(2))
    size = outcomes[0].value
    for task in range(2):
        text = stand.output[task, 1]
        assert len(text) < outbox.OUTPUT_SIZE + 100
        assert text.endswith(b"[shoal: the rest is in the Pod's log only]\n")
    assert stand.log.stat().st_size == 2 * (size + 2_000 * len("[task 0] "))
    assert _peak_memory(stand) < 150


def test_reports_that_are_not_taken_do_not_fill_the_memory(stand: Stand) -> None:
    def speak(_: int) -> None:
        os.write(1, b"z" * 999_999 + b"\n")

    stand.take_reports(False)
    count = 100
    stand.claim(stand.map(speak, range(count)), range(count))
    while stand.log.stat().st_size < count * 1_000_000:
        assert stand.process.poll() is None
    peak = _peak_memory(stand)
    stand.take_reports(True)
    stand.until(lambda: len(stand.outcomes) == count)
    whole = [text for text in stand.output.values() if text == b"z" * 999_999 + b"\n"]
    cut = [text for text in stand.output.values() if b"the operator took no reports" in text]
    assert len(whole) >= 10
    assert cut
    assert peak < 150


def test_a_daemon_that_keeps_printing(stand: Stand) -> None:
    def leave(n: int) -> int:
        if n == 0:
            subprocess.Popen(["sh", "-c", "while true; do echo daemon; done"], process_group=0)
        return n

    job = stand.map(leave, range(3))
    assert [one.value for one in stand.run(job, range(3)).values()] == [0, 1, 2]
    stand.gone(job)
    assert stand.run(stand.call(os.getpid))[0].state == "SUCCEEDED"


def _peak_memory(stand: Stand) -> int:
    """Return the agent's peak in MiB."""
    status = Path(f"/proc/{stand.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found.group(1)) >> 10


@pytest.mark.parametrize("seed", range(20))
def test_marks_are_found_wherever_they_are_cut(seed: int) -> None:
    draw = random.Random(seed)
    mark = output.draw()
    splitter, marks = Splitter(mark), output.marks(mark)
    stream, expected = b"import", [(None, b"import")]
    for task in range(30):
        alphabet = [b"\0", mark[:3], mark[:-1], b"line\n", b"", b"x" * 50]
        text = b"".join(draw.choices(alphabet, k=draw.randrange(6)))
        attempt = draw.choice([1, 2, 10])
        stream += marks(task, attempt) + text
        if text:
            expected.append((Label(task, attempt), text))
    found: list[tuple[Label | None, bytes]] = []
    while stream:
        size = draw.choice([1, 2, 7, 40, 200])
        for label, text in splitter.split(stream[:size]):
            if found and found[-1][0] == label:
                found[-1] = label, found[-1][1] + text
            else:
                found.append((label, text))
        stream = stream[size:]
    if rest := splitter.rest():
        if found[-1][0] == splitter.label:
            found[-1] = splitter.label, found[-1][1] + rest
        else:
            found.append((splitter.label, rest))
    assert found == expected


def test_text_is_never_held_back() -> None:
    splitter = Splitter(output.draw())
    assert splitter.split(b"anything that is text") == [(None, b"anything that is text")]
