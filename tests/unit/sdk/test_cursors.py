"""A reader that was killed goes on where it stood, and gets each later result once."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal import ledger
from shoal.cursor import Cursor, behind_each
from shoal.errors import ConfigurationError, LedgerTampered
from shoal.ledger import Entry
from shoal.ledger_reader import LedgerReader
from shoal.worker.records import Record

SECRET = b"s" * 32


def a_ledger(entries: int, records: int, *, roll_up: int = 0, job: str = "me") -> dict[str, bytes]:
    objects: dict[str, bytes] = {}
    digest, last, task, since = ledger.GENESIS, -1, 0, list[bytes]()
    for n in range(entries):
        if roll_up and len(since) == roll_up:
            entry = Entry(n=n, prev=digest, rolled=since, last_roll_up=last)
            since, last = [], n
        else:
            made = [Record(task + i, 1, "SUCCEEDED", "pickle", b"x") for i in range(records)]
            pods = [(1, "a", "n1"), (records - 1, "b", "n2")]
            entry = Entry(n=n, prev=digest, records=made, pods=pods, last_roll_up=last)
            task += records
        raw = ledger.seal(entry, job, SECRET)
        if not entry.rolled:
            since.append(raw)
        objects[ledger.key("p", n)] = raw
        digest = ledger.digest_of(raw)
    return objects


def reader(objects: dict[str, bytes], after: Cursor | None = None) -> LedgerReader:
    async def get(key: str) -> bytes:
        return objects[key]

    return LedgerReader(get, "p", after)


async def read(
    objects: dict[str, bytes], after: Cursor | None = None
) -> list[tuple[int, Cursor, str]]:
    """Return (task, cursor behind it, node) of all records behind the cursor."""
    length = len(objects)
    digest = ledger.digest_of(objects[ledger.key("p", length - 1)])
    seen, found = after.seen if after else 0, []
    reading = reader(objects, after)
    assert reading.is_behind(length)
    async for entry in reading.read(length, digest):
        for position, text in enumerate(behind_each(entry, seen)):
            cursor, node = Cursor.parse(text), entry.pod_of(position)[1]
            found.append((entry.records[position].task, cursor, node))
        seen += len(entry.records)
    return found


@pytest.mark.parametrize("roll_up", [0, 3])
async def test_every_place_in_a_ledger_can_be_gone_on_from(roll_up: int) -> None:
    objects = a_ledger(10, 3, roll_up=roll_up)
    whole = await read(objects)
    assert [task for task, _, _ in whole] == list(range(len(whole)))
    for number, (_, cursor, _) in enumerate(whole, 1):
        assert await read(objects, Cursor.parse(str(cursor))) == whole[number:]


async def test_a_cursor_stays_good_while_the_ledger_grows() -> None:
    grown = a_ledger(9, 2, roll_up=4)
    short = dict(list(grown.items())[:3])
    cursor = (await read(short))[-1][1]
    assert [task for task, _, _ in await read(grown, cursor)] == list(range(6, 16))


@pytest.mark.parametrize("position", [0, 1, 2, 7, 8, 14])
async def test_a_cursor_of_another_run_is_refused(position: int) -> None:
    cursor = (await read(a_ledger(5, 3, job="other")))[position][1]
    for entries in (1, 4, 5, 8):
        with pytest.raises(ConfigurationError, match=f"{cursor} does not fit the ledger p"):
            await read(a_ledger(entries, 3), cursor)


async def test_a_cursor_does_not_make_a_changed_entry_good() -> None:
    objects = a_ledger(4, 3)
    cursor = (await read(objects))[4][1]
    objects[ledger.key("p", 1)] = a_ledger(4, 3, job="other")[ledger.key("p", 1)]
    with pytest.raises(LedgerTampered, match="p/ledger/00000001 was changed"):
        await read(objects, cursor)


@pytest.mark.parametrize(
    "text", ["", "x", "1.0.1", "1.0.1.zz", "0.0.0." + "A" * 43, "1.-1.1." + "A" * 43, "1.0.1.é"]
)
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no cursor"):
        Cursor.parse(text)


async def test_a_map_is_gone_on_with_on_another_handle(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    handle = await shoal.submit_map(lambda x: x * x, range(50), local, None, here, 2, name="cursed")
    first = []
    async for task in handle.results():
        first.append(task)
        if len(first) == 7:
            break
    again = await shoal.attach("local/cursed", local)
    rest = [task async for task in again.results(after=first[-1].cursor)]
    assert sorted(task.task_id for task in [*first, *rest]) == list(range(50))
    assert all(task.result == task.task_id**2 for task in rest)
    assert [task async for task in again.results(after=rest[-1].cursor)] == []
    other = await shoal.submit_map(lambda x: x, range(5), local, None, here)
    assert len([task async for task in other.results()]) == 5
    for cursor in (first[0].cursor, rest[-1].cursor):
        with pytest.raises(ConfigurationError, match="of another run"):
            [task async for task in other.results(after=cursor)]


async def test_a_map_that_fails_later_says_so_behind_a_cursor_too(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    import time

    def wait(item: int) -> int:
        while item:
            time.sleep(0.05)
        return item

    handle = await shoal.submit_map(wait, range(2), local, None, here, 1)
    first = await anext(handle.results())
    await handle.cancel()
    with pytest.raises(shoal.JobFailedException, match="Cancelled"):
        [task async for task in handle.results(after=first.cursor)]


READER = """
import json, os, sys
from shoal import Local, blocking

folder, log, stop = sys.argv[1], sys.argv[2], int(sys.argv[3])
lines = open(log).read().splitlines() if os.path.exists(log) else []
after = json.loads(lines[-1])[1] if lines else None
with open(log, "a") as out:
    for number, task in enumerate(blocking.attach("killed", Local(folder)).results(after=after)):
        print(json.dumps([task.task_id, task.cursor, task.result]), file=out, flush=True)
        if number == stop:
            os._exit(9)
"""


async def test_a_reader_that_is_killed_again_and_again_gets_each_result_once(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    handle = await shoal.submit_map(lambda x: -x, range(60), local, None, here, 2, name="killed")
    await handle.wait()
    log = tmp_path / "log"
    for stop, code in ((0, 9), (16, 9), (3, 9), (1000, 0)):
        words: list[Any] = [sys.executable, "-c", READER, local.folder, log, str(stop)]
        done = await asyncio.to_thread(subprocess.run, words, timeout=60)
        assert done.returncode == code
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert Counter(task for task, _, _ in lines) == Counter(range(60))
    assert all(result == -task for task, _, result in lines)


async def test_a_call_that_has_one_result_has_no_cursor_to_mind(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    handle = await shoal.submit_function(lambda: 1, local, None, here)
    [task] = [task async for task in handle.results()]
    assert [task async for task in handle.results(after=task.cursor)] == []
    assert pickle.loads(pickle.dumps(task)) == task
