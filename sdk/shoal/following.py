"""One watch for all runs that this process has submitted to a namespace.

A watch for each run would hold a connection for each, and cost a TLS handshake at each call. So the
resources carry a label with this process's random name, one watch follows that label, and hands
each object to those who wait for it. It is opened beside the upload, before the resource is
created, and closed when nobody has waited for a while.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from weakref import WeakSet

from shoal.kube import Client, Resource, WatchEvent

LABEL = "shoal.dev/client"
PROCESS = secrets.token_hex(8)
IDLE_SECONDS = 30.0
API_SECONDS = 300.0
"""How long the API server may be away while runs are followed."""

Object = dict[str, Any]


class Reader:
    """The latest state of one object; a state that nobody took in time is passed over."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._latest: Object | Exception | None = None
        self._changed = asyncio.Event()

    async def ready(self) -> None:
        """Wait until the watch stands, so that nothing that is created after this is missed."""
        await self._follower.listed.wait()
        if self._latest is None:
            self._changed.clear()  # that the object was not there is no news from here on

    def put(self, state: Object | Exception | None) -> None:
        """Take the object as it is now, None if the watch does not know it, or why it ended."""
        self._latest = state
        self._changed.set()

    async def next(self) -> Object | None:
        """Return the next state; None means: look yourself, it may be deleted."""
        await self._changed.wait()
        self._changed.clear()
        if isinstance(self._latest, Exception):
            raise self._latest
        return self._latest


class Follower:
    """The watch, running while somebody holds a `Reader` of it."""

    def __init__(self, api: Client, resource: Resource, namespace: str) -> None:
        self._api, self._resource, self._namespace = api, resource, namespace
        self._readers: dict[str, WeakSet[Reader]] = {}
        self._task: asyncio.Task[None] | None = None
        self.listed = asyncio.Event()

    @classmethod
    def of(cls, api: Client, resource: Resource, namespace: str) -> Follower:
        """Return the one for this kind and namespace on this connection."""
        key = (cls, resource, namespace)
        if key not in api.companions:
            api.companions[key] = cls(api, resource, namespace)
        found: Follower = api.companions[key]
        return found

    def reader(self, name: str) -> Reader:
        """Return a reader of the object of that name, for as long as the caller holds it."""
        reader = Reader(self)
        self._readers.setdefault(name, WeakSet()).add(reader)
        if self._task is None or self._task.done():
            self.listed.clear()
            self._task = asyncio.create_task(self._follow(), name="shoal's watch")
        return reader

    async def _follow(self) -> None:
        try:
            while self._is_read():
                self.listed.clear()
                watch = self._api.watch(
                    self._resource,
                    self._namespace,
                    label_selector=f"{LABEL}={PROCESS}",
                    give_up_seconds=API_SECONDS,
                )
                async with aclosing(watch):
                    await self._hand_out(watch)
        except Exception as error:
            for name in list(self._readers):
                self._tell(name, error)
        finally:
            self.listed.set()

    def _is_read(self) -> bool:
        """Forget names that nobody reads any more, and tell whether any is left."""
        self._readers = {name: readers for name, readers in self._readers.items() if readers}
        return bool(self._readers)

    async def _hand_out(self, watch: AsyncGenerator[WatchEvent, None]) -> None:
        pending = asyncio.ensure_future(anext(watch))
        try:
            while True:
                done, _ = await asyncio.wait([pending], timeout=IDLE_SECONDS)
                if not done:
                    if self._is_read():
                        continue
                    return
                event = pending.result()
                pending = asyncio.ensure_future(anext(watch))
                self._take(event)
        finally:
            pending.cancel()
            await asyncio.wait([pending])

    def _take(self, event: WatchEvent) -> None:
        if event.type == "LISTED":
            there = {item["metadata"]["name"]: item for item in event.object["items"]}
            for name in list(self._readers):
                self._tell(name, there.get(name))
            self.listed.set()
        else:
            gone = event.type == "DELETED"
            self._tell(event.object["metadata"]["name"], None if gone else event.object)

    def _tell(self, name: str, state: Object | Exception | None) -> None:
        for reader in list(self._readers.get(name, ())):
            reader.put(state)
