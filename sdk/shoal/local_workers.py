"""The Local host's engine room: a dispatcher and worker processes, in a thread of this process.

One for each folder and interpreter, started at the first call and kept until the process ends, so
that the next call finds warm workers. The same dispatcher and the same workers as on a cluster; in
the place of TLS and a Pod's token stand the loopback address and a random token for each worker.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from shoal import bundle, loop_thread
from shoal.dispatch import (
    Dispatcher,
    PoolSettings,
    Unauthorized,
    WorkerIdentity,
    application,
)
from shoal.errors import ObjectNotFound
from shoal.storage.file import FileStorage

T = TypeVar("T")

#: How long a worker without work stays, in seconds, as on a cluster.
IDLE_SECONDS = 300.0
#: A worker whose process that started it is gone ends after this long, in seconds.
ORPHAN_SECONDS = 10.0
#: How often runs that ended long ago are looked for, in seconds.
SWEEP_SECONDS = 3600.0
#: The most workers at a time; parallelism beyond it waits.
MOST_WORKERS = max(4, os.cpu_count() or 1)

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from _shoal_worker.agent import main; "
    "sys.exit(main())"
)


class FolderStore:
    """A folder as the dispatcher's bucket; local files answer at once, so nothing waits."""

    def __init__(self, storage: FileStorage) -> None:
        """`storage` is the folder."""
        self._storage = storage

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object unless it exists."""
        return self._storage.create(key, data)

    async def put(self, key: str, data: bytes) -> None:
        """Write the object."""
        self._storage.put(key, data)

    async def get(self, key: str) -> bytes | None:
        """Return the object, or None."""
        try:
            return self._storage.get(key)
        except ObjectNotFound:
            return None

    def url_to_get(self, key: str) -> str:
        """Return where the object lies."""
        return (self._storage.root / key).absolute().as_uri()

    def url_to_put(self, key: str) -> str:
        """Return where the object is to lie."""
        return self.url_to_get(key)


@dataclass(frozen=True)
class _Pool:
    """What is the same for all workers of a pool."""

    environment: Mapping[str, str]
    own: bool


class LocalWorkers:
    """Dispatcher, server and worker processes of one folder."""

    def __init__(self, folder: Path, python: str) -> None:
        """Start the thread; `python` is the interpreter that workers run."""
        self.storage = FileStorage(folder, make=True)
        self.store = FolderStore(self.storage)
        self.python = python
        self._pools: dict[str, _Pool] = {}
        self._identities: dict[str, WorkerIdentity] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._starting: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: dict[str, Callable[[], None]] = {}
        self._told: set[str] = set()
        self._stopping = False
        self._sweep_at = 0.0
        self._scratch = tempfile.mkdtemp(prefix="shoal-local-")
        archive, _ = bundle.build()
        self._archive = os.path.join(self._scratch, "worker.zip")
        Path(self._archive).write_bytes(archive)
        self._loop = asyncio.new_event_loop()
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._serve, name="shoal local", daemon=True)
        self._thread.start()
        self._ready.result()
        atexit.register(self._at_exit)

    # from any thread

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the dispatcher's loop and return what it returns."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stop(self) -> None:
        """End the workers and the thread."""
        atexit.unregister(self._at_exit)
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _at_exit(self) -> None:
        """End, but not before those who wait in `shoal.blocking` have said their last words."""
        loop_thread.stop()
        self.stop()

    def claim_sweep(self) -> bool:
        """Return whether the caller is to sweep now; then nobody else is for a while."""
        now = time.monotonic()
        due = now >= self._sweep_at
        if due:
            self._sweep_at = now + SWEEP_SECONDS
        return due

    # on the dispatcher's loop

    def watch(self, job: str, changed: Callable[[], None]) -> None:
        """Call `changed` whenever something changed about a job."""
        self._watchers[job] = changed

    def forget(self, job: str) -> None:
        """Let go of a job that is over."""
        self.dispatcher.detach(job)
        self._watchers.pop(job, None)
        self._drop_if_over(_own_pool(job))

    def _drop_if_over(self, pool: str) -> None:
        """Forget a pool of one job, once that and its workers are gone."""
        serves = any(run.work.serves(pool) for run in self.dispatcher.jobs().values())
        is_own = pool in self._pools and self._pools[pool].own
        if is_own and not serves and not self._starting.get(pool):
            self.dispatcher.forget_pool(pool)
            del self._pools[pool]
            self._starting.pop(pool, None)

    def pool_for(self, environment: Mapping[str, str], own: str | None) -> str:
        """Return the pool for jobs with this environment, or (`own`) for one job alone."""
        pool = _own_pool(own) if own else f"shared:{sorted(environment.items())}"
        if pool not in self._pools:
            self._pools[pool] = _Pool(dict(environment), own is not None)
            idle = 0.0 if own else IDLE_SECONDS
            self.dispatcher.set_pool(pool, PoolSettings(idle_seconds=idle))
        return pool

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._start())
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        self._loop.run_forever()
        self._loop.close()

    async def _start(self) -> None:
        self.dispatcher = Dispatcher(secret=secrets.token_bytes(32), on_change=self._changed)
        self.dispatcher.start()
        archive, _ = bundle.build()
        app = application(self.dispatcher, authenticate=self._authenticate, worker_zip=archive)
        # a poll whose worker is gone must not get a claim: its handler ends with the connection
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        self._stopping = True
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self.dispatcher.stop()
        await self._runner.cleanup()

    async def _authenticate(self, headers: Mapping[str, str]) -> WorkerIdentity:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self._identities:
            raise Unauthorized("an unknown token")
        return self._identities[token]

    def staff(self, job: str) -> None:
        """Start the workers that the job can use beyond those that there are."""
        run = self.dispatcher.jobs().get(job)
        if run is not None:
            for pool in run.work.pools():
                self._staff(pool)

    def _changed(self, job: str) -> None:
        """Tell of a job, once the dispatcher is through: a worker that joins is handed a task."""
        self.staff(job)
        if job not in self._told:
            self._told.add(job)
            self._loop.call_soon(self._tell, job)

    def _tell(self, job: str) -> None:
        self._told.discard(job)
        if job in self._watchers:
            self._watchers[job]()

    def _staff(self, pool: str) -> None:
        """Start as many workers as the pool's jobs can use."""
        wanted = min(self.dispatcher.pool(pool).wanted, MOST_WORKERS)
        while self._starting.get(pool, 0) < wanted and not self._stopping:
            self._starting[pool] = self._starting.get(pool, 0) + 1
            task = asyncio.create_task(self._worker(pool))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _worker(self, pool: str) -> None:
        """Run one worker process from its start to its end."""
        uid, token = secrets.token_hex(8), secrets.token_hex(16)
        scratch = os.path.join(self._scratch, uid)
        os.makedirs(scratch)
        token_file = os.path.join(scratch, "token")
        with open(token_file, "w", encoding="ascii") as file:  # noqa: ASYNC230 - a few bytes
            file.write(token)
        self._identities[token] = WorkerIdentity(
            pod_uid=uid, pod=f"local-{uid}", namespace="local", node="localhost", pool=pool
        )
        environment = {
            **os.environ,
            **self._pools[pool].environment,
            "SHOAL_DISPATCHER": f"http://127.0.0.1:{self._port}",
            "SHOAL_TOKEN_FILE": token_file,
            "SHOAL_SCRATCH": scratch,
            "SHOAL_LIBRARY": self._archive + "/lib",
            "SHOAL_TERMINATION_LOG": "",
            "SHOAL_ORPHAN_SECONDS": str(ORPHAN_SECONDS),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                self.python,
                "-c",
                _START,
                self._archive,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None,
                env=environment,
                cwd=scratch,
                start_new_session=True,
            )
            self._processes[uid] = process
            if self._stopping:  # the process that started us ends meanwhile
                process.terminate()
            code = await process.wait()
        finally:
            self._starting[pool] -= 1
            self._processes.pop(uid, None)
            self._identities.pop(token, None)
            shutil.rmtree(scratch, ignore_errors=True)
        self.dispatcher.worker_gone(uid, f"its process ended with exit code {code}", unknown=True)
        self._staff(pool)
        self._drop_if_over(pool)


def _own_pool(job: str) -> str:
    return f"job:{job}"


_engines: dict[tuple[Path, str], LocalWorkers] = {}
_lock = threading.Lock()


def engine(folder: Path, python: str) -> LocalWorkers:
    """Return the workers of this folder and interpreter, starting them at the first call."""
    key = (folder.absolute(), python)
    with _lock:
        if key not in _engines:
            _engines[key] = LocalWorkers(*key)
        return _engines[key]


def stop_all() -> None:
    """End every local worker of this process (they end with it anyway)."""
    with _lock:
        engines = list(_engines.values())
        _engines.clear()
    for one in engines:
        one.stop()
