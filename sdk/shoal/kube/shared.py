"""One connection per event loop and context, kept while the loop lives.

A call on a warm cluster takes milliseconds, and a new TLS connection would double it. The
connections hang on an asynchronous generator: `asyncio.run` closes those when it closes the loop,
so nothing is left open and nobody needs to call a close function.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

from shoal.kube.client import Client, connect

_Kept = tuple[Client, AsyncGenerator[Client, None]]
_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str | None, _Kept]] = WeakKeyDictionary()


async def shared(context: str | None = None) -> Client:
    """Return the running loop's connection to the cluster of `context` (None: the current one)."""
    loop = asyncio.get_running_loop()
    clients = _kept.setdefault(loop, {})
    if context not in clients:
        client = await connect(context)
        if context not in clients:
            holder = _hold(client, loop)
            clients[context] = (await anext(holder), holder)
    return clients[context][0]


async def _hold(client: Client, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Client, None]:
    try:
        yield client
    finally:
        _kept.pop(loop, None)
        client.companions.clear()
        await client.close()
