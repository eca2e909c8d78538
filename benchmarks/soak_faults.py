"""The faults of the soak: what each does, what it must not overlap with, and their order.

The order follows from the seed alone: rounds in which each row of the design's table of failures
has its turn, by one of its kinds after the other. Faults of different domains overlap as they come;
those of one domain wait for each other, and leave a rest between them.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from chaos import Chaos, CommandFailed, until_answered
from namespaces import Place

from shoal.errors import ApiError
from shoal.kube import Resource

QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
PATIENCE = 90.0
"""Seconds that a fault may take, with what it undoes."""
TRIES = 5
REST = 2.0
"""Seconds after a fault in which nothing else of its domain begins."""
MOST_WAITING = 6
"""Faults under way or waiting for their domain; a slow machine gets fewer of them."""

Fault = Callable[[], Awaitable[bool | None]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault; `hurt` returns False where there was nothing to hurt."""

    row: str
    name: str
    domain: str
    hurt: Fault


@dataclass
class Turn:
    """One fault as it happened; times by the monotonic clock."""

    kind: str
    start: float
    end: float = 0.0
    error: str = ""


@dataclass
class Faults:
    """Does faults to the cluster in a random order."""

    chaos: Chaos
    place: Place
    kill_client: Callable[[], Awaitable[bool]]
    rng: random.Random
    turns: list[Turn] = field(default_factory=list)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def kinds(self) -> list[Kind]:
        """Every kind of fault."""
        chaos = self.chaos
        return [
            Kind(
                "API server",
                "API server killed",
                "control",
                lambda: self._while(chaos.no_api_server()),
            ),
            Kind(
                "API server",
                "API server hangs",
                "control",
                lambda: self._while(chaos.hanging_api_server()),
            ),
            Kind("API server", "watches cut", "control", chaos.cut_watches),
            Kind("node lost", "node lost and back", "control", self._lose_node),
            Kind("evicted", "node drained", "control", self._drain_node),
            Kind("operator gone", "helm upgrade", "control", self._upgrade),
            Kind(
                "bucket gone",
                "bucket refuses",
                "bucket",
                lambda: self._while(chaos.bucket_away(refuse=True)),
            ),
            Kind(
                "bucket gone",
                "bucket vanishes",
                "bucket",
                lambda: self._while(chaos.bucket_away(refuse=False)),
            ),
            Kind(
                "bucket gone", "bucket hangs", "bucket", lambda: self._while(chaos.bucket_hangs())
            ),
            Kind("operator gone", "operator's Pod deleted", "operator", chaos.delete_operator),
            Kind("operator gone", "operator killed", "operator", chaos.kill_operator),
            Kind(
                "operator gone",
                "operator hangs",
                "operator",
                lambda: self._while(chaos.hanging_operator()),
            ),
            Kind("operator gone", "Lease stolen", "operator", chaos.steal_lease),
            Kind("operator gone", "two operators", "operator", self._two_operators),
            Kind(
                "Pod deleted",
                "worker deleted at once",
                "workers",
                lambda: self._worker(self._delete_at_once),
            ),
            Kind("Pod deleted", "worker deleted", "workers", lambda: self._worker(self._delete)),
            Kind(
                "child died", "child killed", "workers", lambda: self._worker(chaos.kill_children)
            ),
            Kind(
                "container died",
                "container killed whole",
                "workers",
                lambda: self._worker(chaos.kill_container),
            ),
            Kind("agent silent", "worker cut off", "workers", lambda: self._worker(self._cut_off)),
            Kind("quota", "quota used up", "quota", self._quota),
            Kind("client gone", "client killed", "client", self.kill_client),
        ]

    def order(self) -> Iterator[Kind]:
        """Yield kinds for ever: one of each row in each round, in another order."""
        rows: dict[str, list[Kind]] = {}
        while True:
            for kind in self.kinds():
                rows.setdefault(kind.row, [])
            names = sorted(rows)
            self.rng.shuffle(names)
            for row in names:
                if not rows[row]:  # all of its kinds had their turn
                    rows[row] = [kind for kind in self.kinds() if kind.row == row]
                    self.rng.shuffle(rows[row])
                yield rows[row].pop()

    async def run(self, seconds: float, per_second: float) -> None:
        """Do faults for some time, about so many a second."""
        end = time.monotonic() + seconds
        room = asyncio.Semaphore(MOST_WAITING)
        async with asyncio.TaskGroup() as group:
            for kind in self.order():
                await room.acquire()
                turn = group.create_task(self._turn(kind))
                turn.add_done_callback(lambda _: room.release())
                pause = self.rng.uniform(0.3, 1.7) / per_second
                if time.monotonic() + pause > end:
                    break
                await asyncio.sleep(pause)

    async def _turn(self, kind: Kind) -> None:
        lock = self._locks.setdefault(kind.domain, asyncio.Lock())
        async with lock:
            for attempt in range(TRIES):
                turn = Turn(kind.name, time.monotonic())
                try:
                    async with asyncio.timeout(PATIENCE):
                        done = await kind.hurt()
                except (ApiError, CommandFailed, TimeoutError) as error:
                    # another fault stands in this one's way: the API server may be away
                    turn.error = f"{type(error).__name__}: {error}"
                    await until_answered(self.chaos.api, seconds=PATIENCE)
                    if attempt < TRIES - 1:
                        continue
                    done = True
                turn.end = time.monotonic()
                if done is not False:
                    self.turns.append(turn)
                    await asyncio.sleep(REST)
                    return
                await asyncio.sleep(0.5)

    async def _while(self, fault: AbstractAsyncContextManager[None]) -> None:
        async with fault:
            await asyncio.sleep(random.uniform(2.0, 4.0))

    async def _lose_node(self) -> None:
        await self._while(self.chaos.lost_node(await self.chaos.victim()))

    async def _drain_node(self) -> None:
        node = await self.chaos.victim()
        async with self.chaos.drained(node, grace_seconds=2):
            await asyncio.sleep(0.5)

    async def _upgrade(self) -> None:
        await self.chaos.upgrade(secrets.token_hex(4), wait=False)

    async def _two_operators(self) -> None:
        async with self.chaos.second_operator():
            await self.chaos.free_lease()

    async def _worker(self, hurt: Callable[[dict[str, Any]], Awaitable[None]]) -> bool:
        pods = [p for p in await self.place.pods() if p["status"].get("phase") == "Running"]
        if not pods:
            return False
        await hurt(random.choice(pods))
        return True

    async def _delete_at_once(self, pod: dict[str, Any]) -> None:
        await self.chaos.delete_pod(pod)

    async def _delete(self, pod: dict[str, Any]) -> None:
        await self.chaos.delete_pod(pod, grace_seconds=5)

    async def _cut_off(self, pod: dict[str, Any]) -> None:
        await self._while(self.chaos.cut_off(pod))

    async def _quota(self) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none"},
            "spec": {"hard": {"pods": "0"}},
        }
        namespace = self.place.namespace
        await self.place.api.delete(QUOTAS, "none", namespace)
        await self.place.api.create(QUOTAS, body, namespace)
        await asyncio.sleep(random.uniform(2.0, 4.0))
        await self.place.api.delete(QUOTAS, "none", namespace)
