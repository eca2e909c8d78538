"""The maps of the soak: what is submitted, and what must come of it, computed on the client.

Every outcome is compared twice: what the caller got, and what the ledger in the bucket says (each
task once, one terminal record, every result right).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import ledgers
from namespaces import KINDS, Place, finished

import shoal
from shoal.errors import (
    ApiError,
    NoOperator,
    RunMapTasksFailedException,
    ShoalException,
    StorageError,
)
from shoal.worker.records import SUCCEEDED

HERE = shoal.Deployment()
SMALL = shoal.Resources(logical_cpu=0.05, memory_gb=0.125)
FAILED = object()
"""Stands for the result of a task that must fail."""
HUNG_SECONDS = 300.0
MANY_DISRUPTIONS = 100
"""So that no fault's legitimate charge ends a map: any failure is a finding."""
LEAST_ATTEMPTS = 3
"""A child that is killed is a failed attempt of the task that it ran."""


@dataclass
class Ran:
    """One map of the soak."""

    kind: str
    name: str
    start: float
    end: float = 0.0
    results: int = 0
    trouble: list[str] = field(default_factory=list)
    """What was lost, doubled, wrong, hung or broken; empty when all is well."""


Planned = tuple[list[Any], Coroutine[Any, Any, list[Any]]]
"""The results that a map must have, and the call that submits it and waits for them."""


@dataclass
class Maps:
    """Submits maps of random kinds to one namespace, and checks them."""

    place: Place
    rng: random.Random
    without: frozenset[str] = frozenset()
    """Kinds that are left out."""
    ran: list[Ran] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    """When results came to their callers, by the monotonic clock."""
    resubmitted: int = 0
    unanswered: int = 0
    """Calls that ended with NoOperator, and were made again."""
    attached: int = 0
    running: dict[str, Ran] = field(default_factory=dict)

    def kinds(self) -> dict[str, Callable[[str], Planned]]:
        """Each kind's plan, which takes a name."""
        return {
            "no-ops": self._no_ops,
            "short sleeps": self._sleeps,
            "retried failures": self._flaky,
            "failures": self._failing,
            "large results": self._large,
            "prints": self._prints,
            "JSON by name": self._by_name,
            "function": self._function,
            "command": self._command,
            "out of memory": self._hungry,
            "more memory": self._growing,
            "task timeout": self._overdue,
            "can't be pickled": self._unpicklable,
        }

    async def stream(self, until: float) -> None:
        """Run one map after the other for some time."""
        while time.monotonic() < until:
            kind = self.rng.choice(sorted(set(self.kinds()) - self.without))
            await self.one(kind)

    async def one(self, kind: str) -> None:
        """Run and check one map."""
        name = f"{kind.replace(' ', '-').replace(chr(39), '').lower()}-{secrets.token_hex(3)}"
        ran = self.running[name] = Ran(kind, name, time.monotonic())
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                await self._go(ran, self.kinds()[kind])
        except TimeoutError:
            ran.trouble.append(f"hung: not done and checked within {HUNG_SECONDS:g} s")
        except Exception as error:
            ran.trouble.append(f"broken: {type(error).__name__}: {str(error)[:500]}")
        self.over(ran)

    def over(self, ran: Ran) -> None:
        """Note a map's end, and say at once what was wrong with it."""
        ran.end = time.monotonic()
        self.ran.append(self.running.pop(ran.name))
        for text in ran.trouble:
            print(f"!! {ran.kind} {ran.name}: {text}", file=sys.stderr, flush=True)

    async def _go(self, ran: Ran, kind: Callable[[str], Planned]) -> None:
        """Submit, wait and check; what could not be submitted is submitted again."""
        while True:
            expected, call = kind(ran.name)
            try:
                self.compare(ran, expected, await call)
            except NoOperator:  # documented: nobody took it up for 20 s, and it is gone again
                self.unanswered += 1
                await self._gone(ran.name)
                continue
            except ShoalException as error:
                unheard = isinstance(error, ApiError | StorageError)
                if unheard and not await self._exists(ran.name):
                    self.resubmitted += 1
                    await asyncio.sleep(0.5)
                    continue
                ran.trouble.append(f"broken: {type(error).__name__}: {str(error)[:500]}")
            await self.check(ran, expected)
            return

    async def _gone(self, name: str) -> None:
        """Take away what a call that gave up may have left."""
        for kind in ("Job", "MapJob"):
            await self._delete(kind, name)

    async def _exists(self, name: str) -> bool:
        for kind in ("Job", "MapJob"):
            if await self._got(kind, name) is not None:
                return True
        return False

    async def _got(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the resource, or None; wait while the API server is away."""
        while True:
            try:
                return await self.place.get(kind, name)
            except ApiError as error:
                if error.status == 404:
                    return None
                await asyncio.sleep(0.5)

    def compare(self, ran: Ran, expected: list[Any], found: list[Any]) -> None:
        """Compare what the caller got with what was computed here."""
        ran.results += len(found)
        if len(found) != len(expected):
            ran.trouble.append(f"lost: {len(found)} results of {len(expected)}")
        wrong = [i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b]
        if wrong:
            shown = [(i, expected[i], found[i]) for i in wrong[:3]]
            ran.trouble.append(f"wrong: {len(wrong)} results, such as {shown!r:.300}")

    async def check(self, ran: Ran, expected: list[Any]) -> None:
        """Check the ledger, and delete the map."""
        for kind in ("Job", "MapJob"):
            made = await self._got(kind, ran.name)
            if made is None:
                continue
            if not ran.trouble and not finished(made["status"]):
                phase = made["status"]["phase"]
                ran.trouble.append(f"wrong: its caller has results, but it is {phase}")
            status = await self._ended(kind, ran.name)
            end = next(c for c in status["conditions"] if c["type"] == "Finished")
            if end["reason"] not in ("Complete", "TaskFailed"):
                ran.trouble.append(f"ended: {end['reason']}: {end['message']}")
            book, values = await self._book(status)
            counted = Counter(record.task for record in book.records)
            if twice := [task for task, count in counted.items() if count > 1]:
                ran.trouble.append(f"doubled: tasks {twice[:10]} stand in the ledger twice")
            if missing := set(range(len(expected))) - set(counted):
                ran.trouble.append(f"lost: tasks {sorted(missing)[:10]} are not in the ledger")
            if len(book.terminal) != 1 or book.entries[-1].terminal is None:
                ran.trouble.append(f"wrong: the ledger's ends are {book.terminal}")
            if ran.kind != "command":
                right = {i: value for i, value in enumerate(expected) if value is not FAILED}
                if values != right:
                    ran.trouble.append("wrong: results in the ledger differ")
            ran.results += len(counted)
            await self._delete(kind, ran.name)

    async def _ended(self, kind: str, name: str) -> dict[str, Any]:
        """Wait for a job's end without its caller's help; return its status."""
        while True:
            made = await self._got(kind, name)
            assert made is not None
            if finished(made.get("status", {})):
                return dict(made["status"])
            await asyncio.sleep(0.3)

    async def _book(self, status: dict[str, Any]) -> tuple[ledgers.Book, dict[int, Any]]:
        """Read a ledger, as soon as the bucket answers."""
        while True:
            try:
                book = await ledgers.read(self.place, status)
                is_exit = any(r.encoding == "exit" for r in book.records if r.state == SUCCEEDED)
                return book, {} if is_exit else await asyncio.to_thread(book.values)
            except (StorageError, ApiError):
                await asyncio.sleep(0.5)  # the bucket is away; its digests are checked, not trusted

    async def _delete(self, kind: str, name: str) -> None:
        while True:
            try:
                await self.place.api.delete(KINDS[kind], name, self.place.namespace)
                return
            except ApiError:
                await asyncio.sleep(0.5)

    # the kinds

    async def _map(
        self, name: str, function: Any, count: int, width: int = 3, **options: Any
    ) -> list[Any]:
        """Run a map as a caller who takes results as they come; failed tasks are FAILED."""
        options = {"resources_per_task": SMALL, "deployment": HERE, **options}
        tasks = shoal.run_map_as_completed(
            function,
            range(count),
            self.place.host(),
            num_concurrent_tasks=width,
            name=name,
            **options,
        )
        found: dict[int, Any] = {}
        async for task in tasks:
            self.arrivals.append(time.monotonic())
            if task.task_id in found:
                raise AssertionError(f"task {task.task_id} came twice")
            found[task.task_id] = task.result if task.is_success else FAILED
        return [value for _, value in sorted(found.items())]

    def _no_ops(self, name: str) -> Planned:
        count = self.rng.randint(200, 2000)
        return list(range(count)), self._map(name, lambda item: item, count)

    def _sleeps(self, name: str) -> Planned:
        def square(item: int) -> int:
            time.sleep(0.05)
            return item * item

        count = self.rng.randint(50, 150)
        return [i * i for i in range(count)], self._map(name, square, count, 4)

    def _flaky(self, name: str) -> Planned:
        def flaky(item: int) -> int:
            import random

            if random.random() < 0.2:
                raise ValueError(item)
            return item * 3

        count = self.rng.randint(20, 60)
        expected = [i * 3 for i in range(count)]
        return expected, self._map(name, flaky, count, max_num_task_attempts=20)

    def _failing(self, name: str) -> Planned:
        def picky(item: int) -> int:
            if item % 7 == 3:
                raise ValueError(item)
            return item + 1

        count = self.rng.randint(20, 60)
        expected = [FAILED if i % 7 == 3 else i + 1 for i in range(count)]

        async def call() -> list[Any]:
            options = {"resources_per_task": SMALL, "deployment": HERE, "name": name}
            try:
                await shoal.run_map(
                    picky, range(count), self.place.host(), num_concurrent_tasks=2, **options
                )
            except RunMapTasksFailedException as failed:
                bad = {task.task_id for task in failed.failed}
                return [FAILED if i in bad else r for i, r in enumerate(failed.results)]
            return []

        return expected, call()

    def _large(self, name: str) -> Planned:
        def blob(item: int) -> bytes:
            return bytes([item % 256]) * 150_000

        count = self.rng.randint(5, 20)
        expected = [bytes([i % 256]) * 150_000 for i in range(count)]
        return expected, self._map(name, blob, count)

    def _prints(self, name: str) -> Planned:
        def loud(item: int) -> int:
            print(f"item {item} " * 20)
            return item

        count = self.rng.randint(50, 200)
        return list(range(count)), self._map(name, loud, count, logs=False)

    def _by_name(self, name: str) -> Planned:
        import math

        numbers = [self.rng.randint(0, 10**6) for _ in range(self.rng.randint(10, 100))]
        spec = {
            "function": {"name": "math.isqrt"},
            "items": {"inline": numbers},
            "parallelism": 2,
            "maxDisruptions": MANY_DISRUPTIONS,
            "maxAttempts": LEAST_ATTEMPTS,
            "resources": {"cpu": "50m", "memory": "128Mi"},
        }

        async def call() -> list[Any]:
            await self.place.apply("MapJob", name, spec)
            status = await self._ended("MapJob", name)
            _, values = await self._book(status)
            return [value for _, value in sorted(values.items())]

        return [math.isqrt(n) for n in numbers], call()

    def _function(self, name: str) -> Planned:
        a, b = self.rng.randint(0, 999), self.rng.randint(0, 999)

        async def call() -> list[Any]:
            host = self.place.host()
            return [
                await shoal.run_function(lambda x, y: x * y, host, SMALL, HERE, [a, b], name=name)
            ]

        return [a * b], call()

    def _command(self, name: str) -> Planned:
        async def call() -> list[Any]:
            program = ["python", "-c", "import sys; sys.exit(0)"]
            done = await shoal.run_command(program, self.place.host(), SMALL, HERE, name=name)
            return [done.return_code]

        return [0], call()

    def _hungry(self, name: str) -> Planned:
        def hungry(item: int) -> int:
            if item == 2:
                block = bytearray(400 << 20)
                block[::4096] = b"x" * len(block[::4096])
            return item

        expected = [FAILED if i == 2 else i for i in range(5)]
        return expected, self._map(name, hungry, 5, 1)

    def _growing(self, name: str) -> Planned:
        def growing(item: int) -> int:
            block = bytearray(150 << 20 if item == 1 else 1)
            block[::4096] = b"x" * len(block[::4096])
            return item

        options = {"max_num_task_attempts": 10, "retry_with_more_memory": True}
        return list(range(4)), self._map(name, growing, 4, 1, **options)

    def _overdue(self, name: str) -> Planned:
        def overdue(item: int) -> int:
            if item == 1:
                time.sleep(600)
            return item

        # one that is interrupted by a fault for a second must not be over its time
        found = self._map(name, overdue, 6, 2, task_timeout_seconds=3)
        return [FAILED if i == 1 else i for i in range(6)], found

    def _unpicklable(self, name: str) -> Planned:
        def strange(item: int) -> Any:
            import threading

            return threading.Lock() if item == 4 else item

        found = self._map(name, strange, 9, 2, max_num_task_attempts=3)
        return [FAILED if i == 4 else i for i in range(9)], found


class Clients:
    """Callers in processes of their own, to be killed: nothing of theirs may be lost."""

    def __init__(self, maps: Maps, script: str) -> None:
        self._maps, self._script = maps, script
        self._checks: set[asyncio.Task[None]] = set()

    async def kill_one(self) -> bool:
        """Start a caller, kill it when its map runs, and attach to the map from here."""
        name = f"killed-client-{secrets.token_hex(3)}"
        ran = Ran("killed client", name, time.monotonic())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, self._script, name, self._maps.place.namespace),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        line = await process.stdout.readline()
        await asyncio.sleep(random.uniform(0.0, 1.0))
        if process.returncode is None:
            process.kill()
        await process.wait()
        if line != b"submitted\n":
            return False  # the API server or the bucket was away: nothing was begun
        self._maps.running[name] = ran
        self._checks.add(asyncio.create_task(self._attach(ran)))
        return True

    async def _attach(self, ran: Ran) -> None:
        expected = [item * item for item in range(100)]
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                while True:
                    try:
                        handle = await shoal.attach(ran.name, self._maps.place.host())
                        break
                    except (ApiError, StorageError):
                        await asyncio.sleep(0.5)
                try:
                    self._maps.compare(ran, expected, await handle.result())
                    self._maps.attached += 1
                except ShoalException as error:
                    ran.trouble.append(f"broken: {type(error).__name__}: {str(error)[:500]}")
                await self._maps.check(ran, expected)
        except TimeoutError:
            ran.trouble.append(f"hung: not done and checked within {HUNG_SECONDS:g} s")
        self._maps.over(ran)

    async def drain(self) -> None:
        """Wait for the last of them."""
        await asyncio.gather(*self._checks)
