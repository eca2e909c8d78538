"""Somebody else writes into the bucket: a clear failure, and nothing of it is unpickled."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from chaos import Chaos, run
from gates import Gate
from ledgers import prefix_of
from namespaces import Place, bucket, condition

import shoal
from shoal import ledger
from shoal.errors import InputsCorrupt, LedgerTampered
from shoal.kube import Resource
from shoal.storage import S3Storage
from shoal.worker.records import PICKLE, SUCCEEDED, Record

HERE = shoal.Deployment()
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")


class Trap:
    """Does something that can be seen when it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


@pytest.fixture
async def storage(user: Place) -> S3Storage:
    return await bucket(user.api)


def trap(folder: Path) -> bytes:
    return pickle.dumps(Trap(f"touch {folder}/sprung"))


def sprung(folder: Path) -> bool:
    return any(folder.iterdir())


async def keys(user: Place, storage: S3Storage, status: dict[str, Any], part: str) -> list[str]:
    where = f"{await prefix_of(user, status)}/{part}/"
    return await asyncio.to_thread(lambda: sorted(info.key for info in storage.list(where)))


async def test_inputs(user: Place, storage: S3Storage) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    await user.api.create(QUOTAS, quota, user.namespace)  # no worker before it is tampered with
    handle = await shoal.submit_map(lambda n: n, range(9), user.host(), None, HERE, 1, name="in")
    status = await user.until("MapJob", "in", lambda s: s.get("id"))
    (key, *_) = await keys(user, storage, status, "inputs")
    await asyncio.to_thread(storage.put, key, pickle.dumps(Trap("echo it was unpickled")))
    await user.api.delete(QUOTAS, "none", user.namespace)
    with pytest.raises(InputsCorrupt, match=r"mapjobs\.shoal\.dev/in"):
        await handle.result()
    for pod in await user.pods():
        if (pod["status"].get("containerStatuses") or [{}])[0].get("started"):  # else no log yet
            words = ("logs", "-n", user.namespace, pod["metadata"]["name"])
            assert "it was unpickled" not in await run("kubectl", *words)


async def test_a_result_beside_the_ledger(user: Place, storage: S3Storage, tmp_path: Path) -> None:
    handle = await shoal.submit_map(
        lambda n: bytes([n]) * 100_000, range(3), user.host(), None, HERE, 1, name="large"
    )
    status = await user.end("MapJob", "large")
    key = (await keys(user, storage, status, "results"))[0]
    await asyncio.to_thread(storage.put, key, trap(tmp_path))
    with pytest.raises(LedgerTampered, match="was not unpickled"):
        await handle.result()
    assert not sprung(tmp_path)


async def test_an_entry_of_the_ledger_that_a_client_reads(
    user: Place, storage: S3Storage, tmp_path: Path
) -> None:
    handle = await shoal.submit_map(lambda n: n, range(3), user.host(), None, HERE, 1, name="read")
    status = await user.end("MapJob", "read")
    key = (await keys(user, storage, status, "ledger"))[0]
    genuine = ledger.open_entry(await asyncio.to_thread(storage.get, key))
    await asyncio.to_thread(storage.put, key, forged(genuine.n, genuine.prev, trap(tmp_path)))
    with pytest.raises(LedgerTampered):
        await handle.result()
    assert not sprung(tmp_path)


def forged(n: int, prev: str, data: bytes) -> bytes:
    """An entry as somebody writes it who has the bucket's key and not the operator's."""
    record = Record(0, 1, SUCCEEDED, PICKLE, data)
    entry = ledger.Entry(n=n, prev=prev, records=[record], pods=[(1, "pod", "node")])
    return ledger.seal(entry, "somebody", b"not the operator's secret")


async def test_entries_that_a_new_operator_reads(
    user: Place, storage: S3Storage, chaos: Chaos, gate: Gate, tmp_path: Path
) -> None:
    wait = gate.wait

    def square(item: int) -> int:
        if item >= 5:
            wait()
        return item * item

    names = ("changed", "added", "shortened", "spared")
    host = user.host()
    for name in names:
        await shoal.submit_map(square, range(8), host, None, HERE, 1, name=name)
    for name in names:
        await user.until("MapJob", name, lambda s: s.get("succeeded", 0) == 5)
    async with chaos.no_operator():
        found = {name: (await user.get("MapJob", name))["status"] for name in names}
        last = {name: (await keys(user, storage, found[name], "ledger"))[-1] for name in names}
        text = await asyncio.to_thread(storage.get, last["changed"])
        await asyncio.to_thread(storage.put, last["changed"], text[:-40] + b"x" + text[-39:])
        told = found["added"]["ledger"]
        key = ledger.key(await prefix_of(user, found["added"]), told["length"])
        entry = forged(told["length"], told["digest"], trap(tmp_path))
        await asyncio.to_thread(storage.put, key, entry)
        await asyncio.to_thread(storage.delete, last["shortened"])
    await gate.open()
    for name in ("changed", "added", "shortened"):
        status = await user.end("MapJob", name)
        assert (name, condition(status, "Failed")["reason"]) == (name, "LedgerTampered")
    squares = [item * item for item in range(8)]
    async with asyncio.timeout(60):
        assert await (await shoal.attach("spared", host)).result() == squares
    assert not sprung(tmp_path)


async def test_a_piece_of_the_log(
    user: Place, storage: S3Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told and left out: no call fails for its output."""
    handle = await shoal.submit_function(lambda: print("genuine"), user.host(), None, HERE)
    await handle.result()
    status = (await user.get("Job", handle.name))["status"]
    key = (await keys(user, storage, status, "logs"))[0]
    await asyncio.to_thread(storage.put, key, b"\xff\xff\xff\xff not a piece of a log")
    assert await handle.logs() == ""
    assert f"{handle.full_name}: a part of its output can't be read" in caplog.text
    assert await handle.result() is None  # results do not depend on it
