"""A worker gives back what it has not begun, exactly that, and goes on in order."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
from worker_stand import Stand

from shoal.worker.turns import RUN, SKIP, Turns

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_for(path: Path) -> None:
    """Wait until another process made the file."""
    while not path.exists():
        time.sleep(0.002)


def gated(folder: Path) -> Any:
    """Return a function that says when it runs an item and, for the negative ones, waits."""

    def run(item: tuple[int, bytes]) -> int:
        number, _ = item
        with (folder / "order").open("a") as file:
            file.write(f"{number}\n")
        if number < 0:
            wait_for(folder / f"go{number}")
        return number * 10

    return run


def order(folder: Path) -> list[int]:
    path = folder / "order"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def until_runs(stand: Stand, folder: Path, number: int) -> None:
    while number not in order(folder):
        assert stand.process.poll() is None


def test_tasks_of_another_job_wait_for_the_one_that_runs(stand: Stand, tmp_path: Path) -> None:
    first = stand.map(gated(tmp_path), [(-1, b""), (2, b"")])
    stand.claim(first, range(2))
    until_runs(stand, tmp_path, -1)
    stand.claim(stand.map(gated(tmp_path), [(3, b"")]))
    stand.until(lambda: len(stand.polls[-1]["held"]) == 2)
    (tmp_path / "go-1").touch()
    stand.until(lambda: len(stand.outcomes) == 3)
    assert [one.value for one in stand.outcomes] == [-10, 20, 30]
    assert order(tmp_path) == [-1, 2, 3]


def test_only_what_has_begun_stays(stand: Stand, tmp_path: Path) -> None:
    job = stand.map(gated(tmp_path), [(n, b"") for n in (1, 2, -3, 4, 5, 6)])
    claim = stand.claim(job, range(6))
    until_runs(stand, tmp_path, -3)
    stand.until(lambda: len(stand.outcomes) == 2)
    assert stand.revoke(job) == {claim: [3, 4, 5]}
    assert set(stand.held()[claim]) <= {0, 1, 2}
    assert 2 in stand.held()[claim]
    (tmp_path / "go-3").touch()
    stand.until(lambda: len(stand.outcomes) == 3)
    assert [one.value for one in stand.outcomes] == [10, 20, -30]
    assert order(tmp_path) == [1, 2, -3]


def test_new_claims_after_that_run_in_order(stand: Stand, tmp_path: Path) -> None:
    numbers = [-1, 2, 3, -4, 5, 6, 7]
    job = stand.map(gated(tmp_path), [(n, b"") for n in numbers])
    stand.claim(job, range(3))
    until_runs(stand, tmp_path, -1)
    assert stand.revoke(job) == {"claim1": [1, 2]}
    second = stand.claim(job, [3, 4])
    third = stand.claim(job, [1, 5, 6])
    # not begun either: the first still runs, and skipped tasks stand before them
    returned = stand.revoke(job)
    assert returned == {second: [3, 4], third: [1, 5, 6]}
    stand.claim(job, [2, 6])
    (tmp_path / "go-1").touch()
    stand.until(lambda: len(stand.outcomes) == 3)
    stand.claim(job, [5, 4])
    stand.until(lambda: len(stand.outcomes) == 5)
    assert [(one.record.task, one.value) for one in stand.outcomes] == [
        (0, -10),
        (2, 30),
        (6, 70),
        (5, 60),
        (4, 50),
    ]
    assert order(tmp_path) == [-1, 3, 7, 6, 5]


def test_tasks_whose_items_wait_for_room_in_the_pipe(stand: Stand, tmp_path: Path) -> None:
    items = [(-1, b"")] + [(n, b"x" * 300_000) for n in range(1, 40)]
    job = stand.map(gated(tmp_path), items)
    claim = stand.claim(job, range(40))
    until_runs(stand, tmp_path, -1)
    assert stand.revoke(job) == {claim: list(range(1, 40))}
    stand.claim(job, [39, 7])
    (tmp_path / "go-1").touch()
    stand.until(lambda: len(stand.outcomes) == 3)
    assert [one.value for one in stand.outcomes] == [-10, 390, 70]
    assert stand.revoke(job) == {}


def test_outcomes_on_their_way_are_not_given_back(stand: Stand, tmp_path: Path) -> None:
    stand.take_reports(False)
    job = stand.map(gated(tmp_path), [(n, b"") for n in (1, 2, 3, -4, 5)])
    claim = stand.claim(job, range(5))
    until_runs(stand, tmp_path, -4)
    assert stand.revoke(job) == {claim: [4]}
    assert stand.held() == {claim: [0, 1, 2, 3]}
    stand.take_reports(True)
    (tmp_path / "go-4").touch()
    stand.until(lambda: len(stand.outcomes) == 4)
    assert [one.value for one in stand.outcomes] == [10, 20, 30, -40]


def test_a_claim_that_was_given_back_whole_is_not_held(stand: Stand, tmp_path: Path) -> None:
    job = stand.map(gated(tmp_path), [(-1, b""), (2, b"")])
    stand.claim(job, [0])
    second = stand.claim(job, [1])
    until_runs(stand, tmp_path, -1)
    assert stand.revoke(job) == {second: [1]}
    assert stand.held() == {"claim1": [0]}
    assert stand.revoke("another") == {}
    (tmp_path / "go-1").touch()
    stand.until(lambda: len(stand.outcomes) == 1)


def test_every_task_ends_once_whatever_is_asked_when(stand: Stand) -> None:
    """Many short tasks, and a dispatcher that takes back and hands out again all the time."""

    def run(n: int) -> int:
        sum(range(n % 7_000))  # from nothing to a fraction of a millisecond
        return n

    job = stand.map(run, range(10_000))
    left = list(range(10_000))
    claims = 0
    while left:
        stand.claim(job, left)
        claims += 1
        before = len(stand.outcomes)
        stand.until(lambda before=before: len(stand.outcomes) > before)
        left = [task for tasks in stand.revoke(job).values() for task in tasks]
    stand.until(lambda: len(stand.outcomes) >= 10_000)
    assert sorted(one.value for one in stand.outcomes) == list(range(10_000))
    assert claims > 3


def test_turns_are_taken_back_once() -> None:
    turns = Turns()
    turns.give(5)
    assert os.read(turns.theirs, 2) == RUN * 2
    assert turns.take_back() == 3
    turns.give(2)
    assert turns.take_back() == 2
    turns.give(1)
    assert os.read(turns.theirs, 100) == SKIP * 5 + RUN
    assert turns.take_back() == 0
    turns.close()


def test_more_turns_than_the_socket_takes() -> None:
    count = 1_000_000
    turns = Turns()
    turns.give(count)
    assert turns.wants_to_write
    begun = len(os.read(turns.theirs, 1_000))
    turns.write()
    assert turns.take_back() == count - begun
    turns.give(1)
    seen = b""
    while len(seen) < count - begun + 1:
        seen += os.read(turns.theirs, 1 << 20)
        turns.write()
    assert seen == SKIP * (count - begun) + RUN
    assert not turns.wants_to_write
    turns.close()
