"""An API server that refuses, fails and breaks off now and then: a proxy before the real one.

What it does to a request is drawn at random. A request is refused before it reaches the API server,
or its answer is lost after it has done its work. Every watch is told that its version is too old or
breaks off in the middle of its stream.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
from collections import Counter
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

SPOILED = 0.15
"""Part of the requests that are spoiled, and of the watches whose version is too old."""
REFUSALS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
OF_WRITES = {**REFUSALS, 409: "Conflict"}
WATCH_SECONDS = 3.0
"""A watch that breaks off lasts so long at the most."""
HOP_BY_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding"})
LOST, CUT, EXPIRED = "answer lost", "watch cut", "410"
DEEDS = (*map(str, OF_WRITES), LOST, CUT, EXPIRED)


class Spoiler:
    """The proxy; `kubeconfig` is how to reach it."""

    def __init__(self, kubeconfig: Path, chance: random.Random) -> None:
        """`kubeconfig` (JSON) says how to reach the real one."""
        self._config: dict[str, Any] = json.loads(kubeconfig.read_text())
        cluster = self._config["clusters"][0]["cluster"]
        self._upstream = cluster["server"].rstrip("/")
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._chance = chance
        self.kubeconfig = kubeconfig.with_name("spoiled-kubeconfig")
        self.spoiled: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        self._session = aiohttp.ClientSession(timeout=limits, auto_decompress=False)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        address, port = self._runner.addresses[0][:2]
        self._config["clusters"][0]["cluster"] = {"server": f"http://{address}:{port}"}
        self.kubeconfig.write_text(json.dumps(self._config))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def has_done_all(self, times: int) -> bool:
        """Whether each way of spoiling has had its turn so often."""
        return all(self.spoiled[deed] >= times for deed in DEEDS)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        is_watch = request.query.get("watch") == "true"
        if is_watch:
            return await self._spoil_watch(request)
        if self._chance.random() < SPOILED:
            return await self._spoil(request)
        return await self._forward(request)

    async def _spoil(self, request: web.Request) -> web.StreamResponse:
        writes = request.method in ("PUT", "PATCH")
        deeds: list[int | str] = [*(OF_WRITES if writes else REFUSALS), LOST]
        deed = self._chance.choice(deeds)
        self.spoiled[str(deed)] += 1
        if isinstance(deed, str):
            await (await self._send(request)).read()
            deed = 500
        return _status(deed)

    async def _spoil_watch(self, request: web.Request) -> web.StreamResponse:
        if self._chance.random() < SPOILED:
            self.spoiled[EXPIRED] += 1
            event = {"type": "ERROR", "object": _body(410, "Expired")}
            return web.Response(text=json.dumps(event) + "\n", content_type="application/json")
        self.spoiled[CUT] += 1
        assert request.transport is not None
        asyncio.get_running_loop().call_later(
            self._chance.uniform(0.1, WATCH_SECONDS), request.transport.abort
        )
        return await self._forward(request)

    async def _send(self, request: web.Request) -> aiohttp.ClientResponse:
        return await self._session.request(
            request.method,
            f"{self._upstream}{request.path_qs}",
            headers={k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP},
            data=await request.read() or None,
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            ssl=self._context,
        )

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        async with await self._send(request) as answer:
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _status(code: int) -> web.Response:
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(_body(code, OF_WRITES[code]), status=code, headers=headers)


def _body(code: int, reason: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": f"spoiled: {reason}",
        "reason": reason,
        "code": code,
    }
