"""The `Local` host: calls on this machine, without a cluster.

`LocalRunner` is the machinery (`shoal.machinery`) of `Local`. What it knows of a run stands in a
file ``runs/<name>.json`` in the host's folder, which says the same as a custom resource's status,
so that `attach` works from another process, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal import code_upload, packing
from shoal.dispatch import CodePartRef, CodeRef, Inputs, JobSpec, JobView
from shoal.errors import (
    ConfigurationError,
    JobDeleted,
    JobNotFound,
    ObjectNotFound,
    StorageError,
)
from shoal.ledger import Terminal
from shoal.ledger_reader import LedgerReader
from shoal.local_interpreters import local_python
from shoal.local_workers import MOST_WORKERS, LocalWorkers, engine
from shoal.log_reader import LogReader
from shoal.machinery import Accepted, Call, Ended, Event, Kind, Observed
from shoal.storage.file import FileStorage

if TYPE_CHECKING:
    from shoal.cursor import Cursor
    from shoal.deployment import Deployment
    from shoal.hosts import Local
    from shoal.resources import Job, MapJob

#: How often a run of another process is looked at, in seconds.
LOOK_SECONDS = 0.1
#: So long a run that has ended is kept, in seconds, as on a cluster by default.
KEEP_SECONDS = 86400.0
#: The prefix of all keys: in place of cluster and namespace.
PREFIX = "local/default"

_log = logging.getLogger("shoal")

_PHASES = {"complete": "Complete", "failed": "Failed", "cancelled": "Cancelled"}


class LocalRunner:
    """Carries out calls on this machine."""

    def __init__(self, host: Local) -> None:
        """`host` says in which folder, and with which interpreter."""
        default = (
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal" / "local"
        )
        self._folder = Path(host.folder) if host.folder is not None else default
        self._python = host.python

    async def submit(self, call: Call) -> LocalRun:
        """Start the call.

        Raises:
            ConfigurationError: the deployment names a container image, a Secret or a ConfigMap, or
                a Python that is not on this machine; or the name is taken.
            NotSupportedYet: packages would have to be installed, or a repository checked out.
            Unpicklable: the function or an item cannot be pickled.
        """
        python = await asyncio.to_thread(local_python, call.deployment, self._python)
        variables = python.variables(_variables(call.deployment))
        packing.check_reader(call.function, python.minor, python.path)
        packed = _pack(call, portable=python.minor != packing.python_version())
        workers = await asyncio.to_thread(engine, self._folder, python.path)
        if workers.claim_sweep():
            await asyncio.to_thread(_expire, workers.storage)
        job = secrets.token_hex(12)
        name = call.name or f"run-{job[:8]}"
        prefix = f"{PREFIX}/jobs/{job}"
        run = LocalRun(workers.storage, name, call.kind, call.total, prefix, workers)
        run.claim_name()
        try:
            code = await asyncio.to_thread(_store, workers.storage, prefix, packed, call)
            inputs = Inputs(key=f"{prefix}/inputs/job", sha256=packed.sha256, size=len(packed.job))
            spec = JobSpec(
                id=job,
                uid=job,
                name=run.full_name,
                context=f"local:{job}",
                prefix=prefix,
                kind=call.kind,
                total=call.total,
                # more never run: claims are sized for those that do
                parallelism=min(call.parallelism, MOST_WORKERS),
                max_attempts=call.max_attempts,
                timeout=call.task_timeout,
                speculation=call.speculation,
                inputs=inputs,
                code=code,
            )
            await workers.call(run.begin(spec, variables, own=call.own_workers))
        except BaseException:
            await run.delete()
            raise
        return run

    async def attach(self, name: str) -> LocalRun:
        """Return a run by its name, of this process or another."""
        storage = FileStorage(self._folder, make=True)
        return _found(storage, name)

    async def manifest(self, call: Call) -> Job | MapJob:
        """Return the resource that the same call would create on a cluster."""
        from shoal.manifests import manifest

        return await asyncio.to_thread(manifest, call)


class LocalRun:
    """One call on this machine."""

    outlives_process = False

    def __init__(
        self,
        storage: FileStorage,
        name: str,
        kind: Kind,
        total: int,
        prefix: str,
        workers: LocalWorkers | None,
    ) -> None:
        """`workers` is None for a run of another process."""
        self.name, self.kind, self.total = name, kind, total
        self._storage, self._prefix, self._workers = storage, prefix, workers
        self._id = prefix.rpartition("/")[2]
        self._loops: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def full_name(self) -> str:
        """Return the name for people."""
        return f"local/{self.name}"

    def claim_name(self) -> None:
        """Write the first status.

        Raises:
            ConfigurationError: another run has the name.
        """
        about = self._about({"phase": "Pending", "total": self.total, "id": self._id})
        if not self._storage.create(f"runs/{self.name}.json", json.dumps(about).encode()):
            raise ConfigurationError(f"{self.full_name} exists already: choose another name")

    def _about(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the folder keeps of the run."""
        assert self._workers is not None
        return {
            "id": self._id,
            "kind": self.kind,
            "pid": os.getpid(),
            "python": self._workers.python,
            "status": status,
        }

    async def begin(self, spec: JobSpec, variables: Mapping[str, str], *, own: bool) -> None:
        """Hand the job to the dispatcher (on its loop); `own` has workers for it alone."""
        assert self._workers is not None
        workers = self._workers
        workers.watch(spec.id, self._on_change)
        pool = workers.pool_for(variables, spec.id if own else None)
        await workers.dispatcher.attach(spec, workers.store, pool, fresh=True)

    def _on_change(self) -> None:
        """Write the status, and wake who waits for it (on the dispatcher's loop)."""
        assert self._workers is not None
        view = self._workers.dispatcher.job(self._id)
        if view is None:
            return
        about = self._about(self._status(view))
        if self._storage.exists(f"runs/{self.name}.json"):
            self._storage.put(f"runs/{self.name}.json", json.dumps(about).encode())
        for event, loop in list(self._loops.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        if view.terminal is not None:
            self._workers.forget(self._id)

    def _status(self, view: JobView) -> dict[str, Any]:
        end = view.terminal
        if end is not None:
            phase = _PHASES[end.outcome]
        else:
            phase = "Suspended" if view.suspended else "Running" if view.claimed else "Pending"
        status: dict[str, Any] = {
            "phase": phase,
            "id": self._id,
            "total": view.total,
            "succeeded": view.succeeded,
            "failed": view.failed,
            "progress": f"{view.succeeded + view.failed}/{view.total}",
            "ledger": {"length": view.ledger_length, "digest": view.ledger_digest},
            "logs": {"length": view.logs_length},
        }
        if end is not None:
            status["end"] = [end.outcome, end.reason, end.message, end.error]
        return status

    async def beside(self, name: str) -> LocalRun:
        """Return another run of the same folder."""
        return _found(self._storage, name)

    async def status(self) -> Mapping[str, Any]:
        """Return the status as it is now.

        Raises:
            JobDeleted: the run is not there any more.
        """
        try:
            about = _read_run(self._storage, self.name)
        except ObjectNotFound:
            message = f"{self.full_name} in {self._storage.root} was deleted: its results are lost"
            raise JobDeleted(message) from None
        status: dict[str, Any] = about["status"]
        if "end" not in status and not _is_alive(about["pid"]):
            message = f"{self.full_name}: the process that ran it is gone; run it again"
            status = {**status, "phase": "Failed", "end": ["failed", "WorkerLost", message, None]}
        return status

    async def events(
        self, *, logs: bool, results: bool = True, after: Cursor | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield what became of the run, from its start or `after`, to its end."""
        changed = asyncio.Event()
        self._loops[changed] = asyncio.get_running_loop()
        reader = LedgerReader(self.fetch, self._prefix, after)
        log = LogReader(self.fetch, self._prefix, self.full_name)
        try:
            while True:
                changed.clear()
                status = await self.status()
                yield Observed(status)
                if logs:
                    async for printed in log.read(status.get("logs", {}).get("length", 0)):
                        yield printed
                ledger = status.get("ledger", {"length": 0, "digest": ""})
                if results and reader.is_behind(ledger["length"]):
                    async for entry in reader.read(ledger["length"], ledger["digest"]):
                        yield Accepted(entry)
                if "end" in status:
                    end = Ended(*status["end"][:3])
                    if end.reason in ("InputsNotFound", "InputsCorrupt"):
                        code_upload.forget_uploads()
                    yield end
                    return
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    continue  # another handle or process runs or deletes it: look again
        finally:
            del self._loops[changed]

    async def fetch(self, key: str) -> bytes:
        """Return an object of the run."""
        return self._storage.get(key)

    async def cancel(self, *, keep_seconds: int | None = None) -> None:
        """End the run; what it left on this machine stays (`keep_seconds` is for clusters).

        Raises:
            ConfigurationError: another process runs it.
        """
        workers = self._here("cancel")
        await workers.call(self._finish(workers))

    async def _finish(self, workers: LocalWorkers) -> None:
        workers.dispatcher.finish(self._id, Terminal("cancelled", "Cancelled", "it was cancelled"))

    async def suspend(self, suspended: bool) -> None:
        """Pause the run, or let it go on.

        Raises:
            ConfigurationError: another process runs it.
        """
        workers = self._here("suspend")
        await workers.call(self._suspend(workers, suspended))

    async def _suspend(self, workers: LocalWorkers, suspended: bool) -> None:
        workers.dispatcher.set_suspended(self._id, suspended)
        self._on_change()  # who asks for the status next is to see it

    async def set_parallelism(self, workers: int) -> None:
        """Set how many workers a map may have at one time.

        Raises:
            ConfigurationError: another process runs it.
        """
        here = self._here("change")
        await here.call(self._set_parallelism(here, workers))

    async def _set_parallelism(self, here: LocalWorkers, workers: int) -> None:
        here.dispatcher.set_parallelism(self._id, min(workers, MOST_WORKERS))
        here.staff(self._id)

    def _here(self, what: str) -> LocalWorkers:
        if self._workers is None:
            raise ConfigurationError(f"{self.full_name} is run by another process: {what} it there")
        return self._workers

    async def delete(self) -> None:
        """Remove the run and all of its files."""
        if self._workers is not None:
            await self._workers.call(self._forget(self._workers))
        await asyncio.to_thread(_remove, self._storage, self.name, self._id)

    async def _forget(self, workers: LocalWorkers) -> None:
        workers.forget(self._id)


def _variables(deployment: Deployment) -> dict[str, str]:
    """Return the values of the variables; what only a cluster has is refused."""
    given = dict(deployment.environment_variables or {})
    values = {name: value for name, value in given.items() if isinstance(value, str)}
    elsewhere = [f"environment_variables[{name!r}]" for name in given if name not in values]
    elsewhere += ["env_from"] if deployment.env_from else []
    if elsewhere:
        raise ConfigurationError(
            f"Local() has no Secrets and ConfigMaps, which {' and '.join(elsewhere)} name: pass "
            "the values themselves, or use Kubernetes()"
        )
    return values


def _pack(call: Call, portable: bool) -> packing.PackedInputs:
    if call.kind == "command":
        return packing.pack_command(call.argv, call.context)
    assert call.function is not None
    if call.kind == "map":
        return packing.pack_map(call.function, call.items, portable=portable)
    return packing.pack_function(call.function, call.args, call.kwargs, portable=portable)


def _store(
    storage: FileStorage, prefix: str, packed: packing.PackedInputs, call: Call
) -> CodeRef | None:
    """Write inputs and code into the folder."""
    if packed.items is not None:
        with packed.items as items:
            storage.put_stream(f"{prefix}/inputs/items", items, packed.items_size)
    storage.put(f"{prefix}/inputs/job", packed.job)
    code = call.deployment.code
    if code is None:
        return None
    code_upload.upload(code, storage, PREFIX)
    return CodeRef(
        parts=tuple(
            CodePartRef(
                key=code_upload.code_key(PREFIX, part.sha256), sha256=part.sha256, size=part.size
            )
            for part in code.parts
        ),
        sys_paths=tuple(code.sys_paths),
        working_directory=code.working_directory,
    )


def _found(storage: FileStorage, name: str) -> LocalRun:
    """Return a run of that folder."""
    name = name.removeprefix("local/")
    try:
        about = _read_run(storage, name)
    except ObjectNotFound:
        raise JobNotFound(
            f"There is no local/{name} in {storage.root} (any more): is it the folder that "
            "shoal.Local was given when it was submitted?"
        ) from None
    prefix = f"{PREFIX}/jobs/{about['id']}"
    own = engine(storage.root, about["python"]) if about["pid"] == os.getpid() else None
    return LocalRun(storage, name, about["kind"], about["status"]["total"], prefix, own)


def _read_run(storage: FileStorage, name: str) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(storage.get(f"runs/{name}.json"))
    return about


def _remove(storage: FileStorage, name: str, job: str) -> None:
    storage.delete(f"runs/{name}.json")
    shutil.rmtree(storage.root / PREFIX / "jobs" / job, ignore_errors=True)


def _expire(storage: FileStorage) -> None:
    """Remove the runs that ended long ago, of whichever process they were."""
    for info in storage.list("runs/"):
        if info.age_seconds <= KEEP_SECONDS:
            continue
        name = info.key.removeprefix("runs/").removesuffix(".json")
        try:
            about = _read_run(storage, name)
            if "end" in about["status"] or not _is_alive(about["pid"]):
                _remove(storage, name, about["id"])
        except ObjectNotFound:
            continue  # another process does the same
        except (StorageError, OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s in %s can't be read, and stays: %r", info.key, storage.root, error)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
