"""A dispatcher's life: its port, a folder as the bucket, and what an owner does around it.

The owner's memory is files, as the operator's is in the API server: `status/<job>` says how long
the ledger is, and is always a moment late; `done/<job>` that the owner did once what it was to do.
The bucket fails now and then, before or after it has written.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from shoal import bundle, ledger, ledger_reader
from shoal.dispatch import (
    Dispatcher,
    Inputs,
    JobSpec,
    PoolSettings,
    Unauthorized,
    WorkerIdentity,
    application,
    logbook,
    patience,
)
from shoal.errors import ObjectNotFound, StorageUnavailable
from shoal.ledger import Terminal
from shoal.storage.file import FileStorage

SECRET = b"k" * 32
POOL = "pool"
PREFIX = "jobs"
LATE_SECONDS = 0.01
"""A status is written so long after the ledger's entry."""

_owners: list[Owner] = []


def live(order: dict[str, Any]) -> int:
    """Run until every job of the order has ended; return the exit code."""
    # small jobs are to go all ways of large ones
    ledger.ROLL_UP = 4
    logbook.INTERVAL = 0.2
    patience.BACKOFFS = (0.01,)
    ledger_reader.HELD_SIZE = 0
    _owners.append(Owner(order))
    asyncio.run(_owners[0].run())
    return 0


def describe() -> str:
    """How this life stands, for people."""
    return _owners[0].describe()


class Store:
    """A folder that fails with some keys, once for each life: before or after it has written."""

    def __init__(self, folder: Path, seed: int, mute: set[str]) -> None:
        """Of the jobs `mute` the first chunk of each log fails."""
        self._storage = FileStorage(folder, make=True)
        self._seed, self._mute = seed, mute
        self._tried: set[str] = set()

    async def create(self, key: str, data: bytes) -> bool:
        await asyncio.sleep(0)
        trouble = self._trouble(key)
        if trouble == "before":
            raise StorageUnavailable(f"{key}: not now")
        made = self._storage.create(key, data)
        if trouble == "after":
            raise StorageUnavailable(f"{key}: the answer was lost")
        return made

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.sleep(0)
        if self._trouble(key):
            raise StorageUnavailable(f"{key}: not now")
        self._storage.put(key, data)

    async def get(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        try:
            return self._storage.get(key)
        except ObjectNotFound:
            return None

    def url_to_get(self, key: str) -> str:
        return (self._storage.root / key).absolute().as_uri()

    def url_to_put(self, key: str) -> str:
        return self.url_to_get(key)

    def _trouble(self, key: str) -> str:
        if key in self._tried:
            return ""
        self._tried.add(key)
        if "/ledger/" not in key:
            wrong = "/logs/" not in key or key.split("/")[1] in self._mute
            return "before" if wrong else ""
        return {0: "before", 1: "after"}.get(zlib.crc32(f"{self._seed} {key}".encode()) % 6, "")


class Owner:
    """What the operator, or the Local host, is around a dispatcher."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._folder = Path(order["folder"])
        self._listener = socket.socket(fileno=os.dup(order["listener"]))
        self._jobs: dict[str, dict[str, Any]] = {job["id"]: job for job in order["jobs"]}
        mute = {job["id"] for job in order["jobs"] if job["kind"] == "command"}
        self._store = Store(self._folder / "bucket", order["seed"], mute)
        self._attached: set[str] = set()
        self._changed = asyncio.Event()
        self._ended: set[str] = set()
        self._dispatcher = Dispatcher(
            secret=SECRET,
            on_change=self._on_change,
            is_known=lambda job: job in self._jobs.keys() - self._ended,
        )

    async def run(self) -> None:
        self._dispatcher.start()
        self._dispatcher.set_pool(POOL, PoolSettings())
        archive, _ = bundle.build()
        app = application(self._dispatcher, authenticate=self._authenticate, worker_zip=archive)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        await asyncio.gather(*(self._attach(job) for job in self._jobs.values()))
        while self._ended != set(self._jobs):
            await self._changed.wait()
            self._changed.clear()
        await self._dispatcher.stop()
        await runner.cleanup()

    async def _attach(self, job: Mapping[str, Any]) -> None:
        status = self._read("status", job["id"])
        inputs = Inputs(**job["inputs"]) if job.get("inputs") else None
        spec = JobSpec(
            id=job["id"],
            uid=job["id"],
            name=job["name"],
            context=f"local:{job['id']}",
            prefix=f"{PREFIX}/{job['id']}",
            total=job["total"],
            kind=job["kind"],
            parallelism=2,
            inputs=inputs,
            inline=job.get("inline"),
            backoff=0.01,
            **job["more"],
        )
        await self._dispatcher.attach(
            spec,
            self._store,
            POOL,
            fresh=self._first("begun", job["id"]),
            length=status.get("length", 0),
            digest=status.get("digest", ""),
            live=self._workers(),
        )
        self._attached.add(job["id"])
        self._on_change(job["id"])

    async def _authenticate(self, headers: Mapping[str, str]) -> WorkerIdentity:
        await asyncio.sleep(0)
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self._workers():
            raise Unauthorized(token)
        return WorkerIdentity(pod_uid=token, pod=token, namespace="n", node="node", pool=POOL)

    def _on_change(self, job: str) -> None:
        if job in self._attached:
            asyncio.get_running_loop().call_later(LATE_SECONDS, self._look, job)

    def _look(self, job: str) -> None:
        """Do what the job's owner is to do now, then write the status."""
        view = self._dispatcher.job(job)
        if view is None:
            return
        act = self._jobs[job].get("act")
        if act == "cancel" and view.succeeded >= 2 and view.terminal is None:
            self._dispatcher.finish(job, Terminal("cancelled", "Cancelled", "as it was to be"))
        if act == "lose" and view.claimed and self._first("done", job):
            self._lose_worker()
        status = {
            "length": view.ledger_length,
            "digest": view.ledger_digest,
            "succeeded": view.succeeded,
            "failed": view.failed,
            "logs": view.logs_length,
            "terminal": [view.terminal.outcome, view.terminal.reason] if view.terminal else None,
        }
        self._write("status", job, status)
        if view.terminal is not None:
            self._attached.discard(job)
            self._dispatcher.detach(job)
            self._ended.add(job)
            self._changed.set()

    def describe(self) -> str:
        """How the jobs stand, for people."""
        words = [f"attached: {sorted(self._attached)}, ended: {sorted(self._ended)}"]
        for job, run in self._dispatcher.jobs().items():
            words += [self._jobs[job]["name"], str(self._dispatcher.job(job)), str(vars(run))]
        words += [f"{name}: {value}" for name, value in vars(self._dispatcher).items()]
        return "\n  ".join(words)

    def _workers(self) -> list[str]:
        """The workers that live; a file for each holds its process's number."""
        return sorted(path.name for path in (self._folder / "workers").iterdir())

    def _lose_worker(self) -> None:
        """Take a worker away, as one that deletes its Pod."""
        name = self._workers()[0]
        path = self._folder / "workers" / name
        number = int(path.read_text())
        path.unlink()
        os.killpg(number, signal.SIGKILL)
        self._dispatcher.worker_gone(name, "deleted")

    def _first(self, what: str, job: str) -> bool:
        """Tell whether no owner before has noted this of the job, and note it."""
        path = self._folder / what / job
        path.parent.mkdir(exist_ok=True)
        known = path.exists()
        path.touch()
        return not known

    def _read(self, what: str, job: str) -> dict[str, Any]:
        path = self._folder / what / job
        read: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return read

    def _write(self, what: str, job: str, value: dict[str, Any]) -> None:
        path = self._folder / what / job
        path.parent.mkdir(exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(value))
        beside.replace(path)
