"""What somebody wrote into the bucket in the place of results is refused, and never unpickled."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal import ledger
from shoal.errors import LedgerTampered
from shoal.ledger import Entry
from shoal.worker.records import Record

LARGE = 2_000_000
"""Bytes of a result that lies beside the ledger."""


class Trap:
    """Its bytes make a folder when they are unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.fixture
def sprung(tmp_path: Path) -> Iterator[Path]:
    """The folder that a trap makes; no test may leave it there."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists(), "what was tampered with was unpickled"


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "x")))
    assert (tmp_path / "x").exists()


async def done(local: shoal.Local, here: shoal.Deployment, size: int = 10) -> shoal.JobHandle:
    handle = await shoal.submit_map(lambda x: bytes(x), [size, size], local, None, here, 1)
    await handle.wait()
    return handle


def objects(local: shoal.Local, handle: shoal.JobHandle, kind: str) -> list[Path]:
    folder = Path(str(local.folder)) / handle._run._prefix / kind  # type: ignore[attr-defined]
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def check_refused(handle: shoal.JobHandle, match: str | None = None) -> None:
    with pytest.raises(LedgerTampered, match=match):
        await handle.result()
    with pytest.raises(LedgerTampered, match=match):
        [task async for task in handle.results()]


async def test_a_result_that_was_exchanged(
    local: shoal.Local, here: shoal.Deployment, sprung: Path
) -> None:
    handle = await done(local, here, LARGE)
    results = objects(local, handle, "results")
    assert len(results) == 2
    good = results[0].read_bytes()
    for bad in (pickle.dumps(Trap(sprung)), pickle.dumps(Trap(sprung)) + good, good[:-1], b""):
        results[0].write_bytes(bad)
        await check_refused(handle, "is not what the worker wrote")
    results[0].write_bytes(good)
    assert await handle.result() == [bytes(LARGE)] * 2
    results[0].unlink()
    await check_refused(handle, f"{results[0].name} is not in the bucket any more")


async def test_an_entry_that_was_changed_or_cut(
    local: shoal.Local, here: shoal.Deployment, sprung: Path
) -> None:
    handle = await done(local, here)
    for path in objects(local, handle, "ledger"):
        good = path.read_bytes()
        changed = bytearray(good)
        changed[len(good) // 2] ^= 1
        for bad in (bytes(changed), good[:-1], good[:-40], good[:10], b"", good + b"x"):
            path.write_bytes(bad)
            await check_refused(handle)
        path.write_bytes(good)
    assert await handle.result() == [bytes(10)] * 2


async def test_an_entry_that_somebody_made(
    local: shoal.Local, here: shoal.Deployment, sprung: Path
) -> None:
    handle = await done(local, here)
    status = await handle._run.status()
    for n, path in enumerate(objects(local, handle, "ledger")):
        good = path.read_bytes()
        found = ledger.open_entry(good)
        records = [Record(i, 1, "SUCCEEDED", "pickle", pickle.dumps(Trap(sprung))) for i in (0, 1)]
        made = Entry(n=n, prev=found.prev, records=records, terminal=found.terminal)
        path.write_bytes(ledger.seal(made, f"local:{status['id']}", b"not the key" * 3))
        await check_refused(handle, f"ledger/{n:08d}")
        path.write_bytes(good)


async def test_an_entry_of_another_run(
    local: shoal.Local, here: shoal.Deployment, sprung: Path
) -> None:
    def trap(item: int) -> Any:
        return type("T", (), {"__reduce__": lambda self: (os.mkdir, (path,))})()

    path = str(sprung)
    handle = await done(local, here)
    other = await shoal.submit_map(trap, [0, 1], local, None, here, 1)
    await other.wait()
    theirs = objects(local, other, "ledger")
    for n, mine in enumerate(objects(local, handle, "ledger")):
        good = mine.read_bytes()
        mine.write_bytes(theirs[min(n, len(theirs) - 1)].read_bytes())
        await check_refused(handle, f"ledger/{n:08d}")
        mine.write_bytes(good)
    assert await handle.result() == [bytes(10)] * 2


async def test_entries_that_changed_places(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def wait(item: int) -> int:
        while item and not gate.exists():
            time.sleep(0.01)
        return item

    handle = await shoal.submit_map(wait, range(2), local, None, here, 1)
    await anext(handle.results())
    gate.touch()
    await handle.wait()
    first, *_, last = objects(local, handle, "ledger")
    one, other = first.read_bytes(), last.read_bytes()
    first.write_bytes(other)
    last.write_bytes(one)
    await check_refused(handle)
    last.write_bytes(other)
    await check_refused(handle)
    first.unlink()
    await check_refused(handle, "ledger/.* is not in the bucket any more")
    first.write_bytes(one)
    assert await handle.result() == [0, 1]
