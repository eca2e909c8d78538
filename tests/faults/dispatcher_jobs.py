"""Jobs for a dispatcher without a cluster, and what must have become of each.

Their functions note each of their starts in a file, so that a task which was accepted and began
again afterwards is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle

from shoal import ledger, packing
from shoal.ledger_reader import LedgerReader
from shoal.storage.file import FileStorage

from .dispatcher_life import PREFIX

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LARGE = 100_000
"""Bytes of a result that does not travel in a report."""
CLOCK_SECONDS = 0.02
"""File systems stamp with a coarse clock."""


@dataclass
class LocalJob:
    """A job as the life gets it (`order`), and what its end must be."""

    order: dict[str, Any]
    expected: dict[int, Any] = field(default_factory=dict)
    outcome: tuple[str, str] = ("complete", "")
    partial: bool = False
    """Whether tasks may be missing: it is cancelled, or it fails as a whole."""
    repeats: bool = False
    """Whether a task may begin again after it was accepted: its worker is said to be lost."""

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.order["id"])


class Works:
    """Makes jobs in a folder, and checks them when they have ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage = FileStorage(folder / "bucket", make=True)
        (folder / "starts").mkdir()
        (folder / "marks").mkdir()

    def round(self) -> list[LocalJob]:
        """One job of every kind."""
        return [
            self._map(square, 12),
            self._map(large, 3),
            self._map(second_time, 4, max_attempts=2),
            self._map(square, 5, corrupt=True),
            self._map(fails_with_two, 4),
            self._map(slowly, 40, act="cancel", max_attempts=2),
            self._map(slowly, 8, act="lose", max_disruptions=1000),
            self._map(slowly, 8, speculation=True),
            self._map(square, 0),
            self._json(),
            self._command(),
        ]

    def status(self, job: LocalJob) -> dict[str, Any]:
        """What the owner last wrote of a job."""
        path = self._folder / "status" / job.id
        told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return told

    def has_ended(self, job: LocalJob) -> bool:
        """Tell whether the job's status says so."""
        return bool(self.status(job).get("terminal"))

    async def complaints(self, job: LocalJob) -> list[str]:
        """What is wrong with a job that has ended."""
        status = self.status(job)
        wrong = []
        if (end := tuple(status["terminal"])) != job.outcome:
            wrong.append(f"it ended as {end}")
        accepted: dict[int, float] = {}
        async for entry in self._reader(job).read(status["length"], status["digest"]):
            if entry.rolled:
                continue
            at = (self._storage.root / ledger.key(self._prefix(job), entry.n)).stat().st_mtime
            for record in entry.records:
                if record.task in accepted:
                    wrong.append(f"task {record.task} stands in the ledger twice")
                accepted[record.task] = at
                raw = self._storage.get(record.ref.key) if record.ref else bytes(record.data)
                value = record.state if record.state != "SUCCEEDED" else _value(job, raw)
                if value != job.expected.get(record.task):
                    wrong.append(f"task {record.task} is {str(value)[:80]}")
        if self._storage.exists(ledger.key(self._prefix(job), status["length"])):
            wrong.append("an entry follows the last one")
        if not job.partial and accepted.keys() != job.expected.keys():
            wrong.append(f"lost: {sorted(job.expected.keys() - accepted.keys())}")
        if status["succeeded"] + status["failed"] != len(accepted):
            wrong.append(f"the status counts otherwise: {status}")
        if not job.repeats:
            wrong += [
                f"task {task} began again {start - accepted[task]:.3f} s after it was accepted"
                for task, start in self._starts(job)
                if task in accepted and start > accepted[task] + CLOCK_SECONDS
            ]
        return wrong

    def _reader(self, job: LocalJob) -> LedgerReader:
        async def get(key: str) -> bytes:
            return self._storage.get(key)

        return LedgerReader(get, self._prefix(job))

    def _prefix(self, job: LocalJob) -> str:
        return f"{PREFIX}/{job.id}"

    def _starts(self, job: LocalJob) -> Iterator[tuple[int, float]]:
        path = self._folder / "starts" / job.id
        for line in path.read_text().splitlines() if path.exists() else ():
            task, start = line.split()
            yield int(task), float(start)

    def _map(
        self,
        function: Callable[[tuple[str, str, int]], Any],
        count: int,
        *,
        corrupt: bool = False,
        act: str = "",
        **more: Any,
    ) -> LocalJob:
        job = secrets.token_hex(12)
        items = [(str(self._folder), job, n) for n in range(count)]
        order = self._order(job, function.__name__, packing.pack_map(function, items), act, more)
        if corrupt:
            order["inputs"]["sha256"] = hashlib.sha256(b"other").hexdigest()
            return LocalJob(order, outcome=("failed", "InputsCorrupt"), partial=True)
        expected: dict[int, Any] = {n: plain(function, n) for n in range(count)}
        if act == "cancel":
            return LocalJob(order, expected, ("cancelled", "Cancelled"), partial=True)
        failed = "PYTHON_EXCEPTION" in expected.values()
        outcome = ("failed", "TaskFailed") if failed else ("complete", "")
        free = act == "lose" or more.get("speculation", False)
        return LocalJob(order, expected, outcome, repeats=free)

    def _json(self) -> LocalJob:
        inline = {"function": {"name": "math.factorial"}, "items": list(range(6))}
        order = self._order(secrets.token_hex(12), "json", None, "", {})
        order |= {"inline": inline, "total": 6}
        return LocalJob(order, {0: 1, 1: 1, 2: 2, 3: 6, 4: 24, 5: 120})

    def _command(self) -> LocalJob:
        order = self._order(secrets.token_hex(12), "command", None, "", {})
        argv = [sys.executable, "-c", "print('printed')"]
        order |= {"inline": {"argv": argv}, "total": 1, "kind": "command"}
        return LocalJob(order, {0: {"returnCode": 0, "lastLines": "printed\n"}})

    def _order(
        self, job: str, name: str, packed: packing.PackedInputs | None, act: str, more: Any
    ) -> dict[str, Any]:
        order = {"id": job, "name": f"{name} {job}", "kind": "map", "act": act, "more": more}
        if packed is None:
            return order
        key = f"{PREFIX}/{job}/inputs/job"
        self._storage.put(key, packed.job)
        inputs = {"key": key, "sha256": packed.sha256, "size": len(packed.job)}
        return order | {"inputs": inputs, "total": packed.count}


def _value(job: LocalJob, raw: bytes) -> Any:
    return cloudpickle.loads(raw) if job.order.get("inputs") else json.loads(raw)


def begin(item: tuple[str, str, int]) -> int:
    """Note a task's start."""
    folder, job, n = item
    file = os.open(f"{folder}/starts/{job}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{n} {time.time()}\n".encode())
    os.close(file)
    return n


def square(item: tuple[str, str, int]) -> int:
    n = begin(item)
    return n * n


def large(item: tuple[str, str, int]) -> bytes:
    return bytes([begin(item)]) * LARGE


def slowly(item: tuple[str, str, int]) -> int:
    n = begin(item)
    print(n, flush=True)
    time.sleep(0.01)
    return n


def second_time(item: tuple[str, str, int]) -> int:
    n = begin(item)
    mark = f"{item[0]}/marks/{item[1]}-{n}"
    if not os.path.exists(mark):
        os.close(os.open(mark, os.O_CREAT))
        raise RuntimeError("the first time")
    return n


def fails_with_two(item: tuple[str, str, int]) -> int:
    n = begin(item)
    if n == 2:
        raise ValueError(n)
    return n


def plain(function: Callable[..., Any], n: int) -> Any:
    """What a task must have become."""
    if function is square:
        return n * n
    if function is large:
        return bytes([n]) * LARGE
    return "PYTHON_EXCEPTION" if function is fails_with_two and n == 2 else n


def unfinished(works: Works, jobs: Iterable[LocalJob]) -> list[LocalJob]:
    """Those that have not ended."""
    return [job for job in jobs if not works.has_ended(job)]
