"""A large result waits for its upload in a file, which outlives the process that made it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import cloudpickle
from worker_stand import Stand

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SIZE = 100_000


def large(item: int) -> bytes:
    return bytes([item]) * SIZE


def small() -> int:
    return os.getpid()


def unsent(folder: Path) -> list[str]:
    return os.listdir(folder / "scratch" / "unsent")


def test_it_outlives_the_work_on_another_job(stand: Stand, tmp_path: Path) -> None:
    stand.take_uploads(False)
    first = stand.map(large, [1, 2])
    stand.claim(first, range(2))
    stand.until_upload()
    stand.claim(stand.call((tmp_path / "begun").touch))
    while not (tmp_path / "begun").exists():  # then the first job's child is gone
        assert stand.process.poll() is None
        time.sleep(0.01)
    stand.take_uploads(True)
    stand.until(lambda: len(stand.outcomes) == 3)
    assert [stand.uploaded(one) for one in stand.outcomes[:2]] == [large(1), large(2)]
    assert stand.process.poll() is None
    assert unsent(tmp_path) == []


def test_it_goes_with_its_job(stand: Stand, tmp_path: Path) -> None:
    stand.take_uploads(False)
    over = stand.map(large, [1, 2, 3])
    stand.claim(over, [0])
    stand.until_upload()
    stand.claim(over, [1, 2])  # these wait behind the first
    stand.until(lambda: len(stand.held()) == 2)
    while len(unsent(tmp_path)) < 3:
        assert stand.process.poll() is None
        time.sleep(0.01)
    stand.gone(over)
    stand.until(lambda: not stand.held())
    while len(unsent(tmp_path)) > 1:
        assert stand.process.poll() is None
        time.sleep(0.01)
    stand.take_uploads(True)
    stand.run(stand.call(small))
    assert unsent(tmp_path) == []
    assert stand.process.poll() is None
