"""An API server that has bad days: it stands before the real one and spoils some requests.

What it spoils is what real ones do: too many requests (429), an error of its own (500), before or
after the request took effect, an answer that never arrives, a conflict (409), a watch that is cut
in the middle of its life, one whose resource version is too old (410). A seed decides which.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import json
import random
import ssl
from pathlib import Path
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

SHARE = 0.25
"""Part of the requests that are spoiled."""
WATCH_SECONDS = (0.5, 6.0)
"""A watch is cut after a time between these."""
STEP_BY_STEP = frozenset({"connection", "transfer-encoding", "content-length", "host"})
"""Headers that belong to one connection and are not passed on."""


class SpoilingProxy:
    """The proxy; `spoiled` counts what it did, by kind."""

    def __init__(self, kubeconfig: Path, seed: int) -> None:
        """`kubeconfig` names the real API server and who the client is."""
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._target: str = cluster["server"].rstrip("/")
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        self._config = config
        self._chance = random.Random(seed)
        self.spoiled: collections.Counter[str] = collections.Counter()
        self.at_peace = False

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(ssl=self._tls, limit=0),
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def write_kubeconfig(self, path: Path) -> None:
        """Write a configuration for the same client, by way of this proxy."""
        port = self._runner.addresses[0][1]
        cluster = {"server": f"http://127.0.0.1:{port}"}
        config = {**self._config, "clusters": [{**self._config["clusters"][0], "cluster": cluster}]}
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") in ("1", "true")
        how = self._misfortune(request.method, watching=watching)
        if how:
            self.spoiled[how] += 1
        if how == "429":
            return _status(429, "TooManyRequests", {"Retry-After": "1"})
        if how == "500":
            return _status(500, "InternalError")
        if how == "409":
            return _status(409, "Conflict")
        if how == "410":
            return _status(410, "Expired")
        try:
            return await self._pass_on(request, how, watching=watching)
        except (ClientError, TimeoutError):
            return _status(503, "ServiceUnavailable")

    def _misfortune(self, method: str, *, watching: bool) -> str:
        if self.at_peace or self._chance.random() >= SHARE:
            return ""
        if watching:
            return self._chance.choice(["410", "500", "watch cut", "watch cut", "watch cut"])
        kinds = ["429", "500", "500 after", "no answer"]
        if method in ("PUT", "PATCH"):
            kinds.append("409")
        return self._chance.choice(kinds)

    async def _pass_on(
        self, request: web.Request, how: str, *, watching: bool
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in STEP_BY_STEP}
        body = await request.read()
        async with self._session.request(
            request.method, self._target + request.raw_path, headers=headers, data=body or None
        ) as answer:
            if not watching:
                whole = await answer.read()
                if how == "500 after":
                    return _status(500, "InternalError")
                if how == "no answer":
                    assert request.transport is not None
                    request.transport.close()
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in STEP_BY_STEP}
                return web.Response(status=answer.status, body=whole, headers=kept)
            return await self._stream(request, answer, cut=how == "watch cut")

    async def _stream(self, request: web.Request, answer: Any, *, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        response.content_type = "application/json"
        await response.prepare(request)
        try:
            async with asyncio.timeout(self._chance.uniform(*WATCH_SECONDS) if cut else None):
                async for piece in answer.content.iter_any():
                    await response.write(piece)
        except TimeoutError:
            assert request.transport is not None
            request.transport.close()
        return response


def _status(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    """An answer as the API server words it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": "the proxy of the tests says so",
    }
    return web.json_response(body, status=code, headers=headers)
