"""What a client holds of large results: each is there as bytes and as a value, and only briefly."""

from __future__ import annotations

import asyncio
import pickle
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest
from test_ends_of_runs import COMPLETE, Told, entry

import shoal
from conftest import Minio
from shoal import outcome
from shoal.errors import LedgerTampered
from shoal.worker.records import PICKLE, SUCCEEDED, Record, Ref

SIZE = 30_000_000


@contextmanager
def at_most(times: float) -> Iterator[None]:
    """Check that no more than so many times the bytes of one result were held at one time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (times + 0.1) * SIZE


async def test_results_are_held_as_bytes_and_as_values_one_by_one(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    size = SIZE
    handle = await shoal.submit_map(lambda x: b"x" * size, range(3), local, None, here, 1)
    await handle.wait()
    with at_most(2):
        async for task in handle.results():
            assert len(task.result) == SIZE
            del task
    with at_most(4):
        assert sum(map(len, await handle.result())) == 3 * SIZE


async def test_tasks_as_completed_are_held_no_longer_than_their_reader_holds_them(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    size = SIZE
    tasks = await shoal.run_map_as_completed(lambda x: b"x" * size, range(3), local, None, here, 1)
    with at_most(2):
        async for task in tasks:
            assert len(task.result) == SIZE
            del task


async def test_a_function_has_its_result_and_its_bytes(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    size = SIZE
    handle = await shoal.submit_function(lambda: b"x" * size, local, None, here)
    await handle.wait()
    with at_most(2):
        assert len(await handle.result()) == SIZE


def test_a_bucket_gives_an_object_without_a_second_copy(minio: Minio) -> None:
    storage = minio.bucket("large")
    storage.put("a", bytes(SIZE))
    with at_most(1):
        assert len(storage.get("a")) == SIZE


class Slow(Told):
    """Counts how many reads are under way, and how many bytes they have."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = {f"r/{n}": size for n, size in enumerate(sizes)}
        records = [
            Record(n, 1, SUCCEEDED, PICKLE, b"", Ref(f"r/{n}", sha256(DATA).hexdigest(), size))
            for n, size in enumerate(sizes)
        ]
        super().__init__("map", entry(*records), COMPLETE, total=len(sizes))
        self.now: list[str] = []
        self.most = self.most_bytes = 0

    async def fetch(self, key: str) -> bytes:
        self.now.append(key)
        self.most = max(self.most, len(self.now))
        self.most_bytes = max(self.most_bytes, sum(self.sizes[key] for key in self.now))
        for _ in range(5):
            await asyncio.sleep(0)
        self.now.remove(key)
        return DATA


DATA = pickle.dumps("result")


async def test_small_results_are_read_many_at_a_time_and_large_ones_are_not() -> None:
    small = Slow([1000] * 50)
    assert await outcome.whole(small, logs=False) == ["result"] * 50
    assert small.most == outcome.FETCHES
    large = Slow([20 << 20] * 10 + [200 << 20] * 3 + [1])
    assert await outcome.whole(large, logs=False) == ["result"] * 14
    assert large.most == 3
    assert large.most_bytes == 200 << 20


async def test_reads_ahead_end_with_their_reader(caplog: pytest.LogCaptureFixture) -> None:
    run = Slow([1000] * 8)
    first = outcome.tasks(run, logs=False)
    await anext(first)
    await first.aclose()
    run.sizes.pop("r/0")  # all reads fail now
    with pytest.raises(KeyError):
        await outcome.whole(run, logs=False)
    await asyncio.sleep(0)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    with pytest.raises(LedgerTampered):
        run.fetch = lambda key: asyncio.sleep(0, b"other")  # type: ignore[method-assign, assignment]
        await outcome.whole(run, logs=False)
