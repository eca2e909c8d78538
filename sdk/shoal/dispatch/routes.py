"""The dispatcher's face to workers: HTTP, JSON, and frames where bytes travel.

======================== ====================================================================
``GET /v1/worker.zip``   the worker, for Pods that begin; no credential
``POST /v1/uv``          -> the tool with which environments are built
``POST /v1/rattler``     -> py-rattler, which installs conda packages, as a tar
``POST /v1/environment`` ``{"environment"}`` -> where what this worker unpacks first is
``POST /v1/poll``        what I hold -> claims
``POST /v1/report``      a frame of outcomes and output -> answered when they are durable
``POST /v1/job``         ``{"job"}`` -> the job's description with fresh URLs
``POST /v1/upload``      ``{"job"}`` -> key and URL for one large result
======================== ====================================================================

Every POST names the protocol's version and is authenticated. A worker of a version that is not
served gets 426, and exits.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from shoal.dispatch.chain import Fenced
from shoal.dispatch.dispatcher import Dispatcher
from shoal.dispatch.logbook import Output
from shoal.dispatch.model import Fatal, NotAttachedYet, Unauthorized, WorkerIdentity
from shoal.dispatch.tars import Tar
from shoal.worker import PROTOCOL, frames
from shoal.worker.records import decode

#: The versions of the protocol that are served: the worker's own, and later the one before.
SERVED = frozenset({PROTOCOL})
#: The largest request in bytes: a report is 512 kB and one result.
LARGEST = 64 << 20

Authenticate = Callable[[Mapping[str, str]], Awaitable[WorkerIdentity]]
Handler = Callable[[WorkerIdentity, bytes], Awaitable[Any]]

_log = logging.getLogger(__name__)


def application(
    dispatcher: Dispatcher,
    *,
    authenticate: Authenticate,
    worker_zip: bytes,
    environment: Callable[[WorkerIdentity, str], Awaitable[dict[str, Any]]] | None = None,
    uv: Path | None = None,
    rattler: Sequence[Path] = (),
) -> web.Application:
    """Return the web application that serves `dispatcher` to workers.

    `environment`, `uv` (the tool's file) and `rattler` (folders of Python packages) are there where
    environments are built.
    """
    routes = _Routes(dispatcher, authenticate)
    app = web.Application(client_max_size=LARGEST)

    async def send_worker(_: web.Request) -> web.Response:
        return web.Response(body=worker_zip, content_type="application/zip")

    app.router.add_get("/v1/worker.zip", send_worker)
    app.router.add_post("/v1/poll", routes.checked(routes.poll))
    app.router.add_post("/v1/report", routes.checked(routes.report))
    app.router.add_post("/v1/job", routes.checked(routes.job))
    app.router.add_post("/v1/upload", routes.checked(routes.upload))
    if environment is not None:

        async def place(worker: WorkerIdentity, body: bytes) -> dict[str, Any]:
            return await environment(worker, str(json.loads(body)["environment"]))

        app.router.add_post("/v1/environment", routes.checked(place))
    if uv is not None:

        async def send_uv(_worker: WorkerIdentity, _body: bytes) -> web.FileResponse:
            return web.FileResponse(uv)

        app.router.add_post("/v1/uv", routes.checked(send_uv))
    if rattler:
        tool = Tar(*rattler)

        async def send_rattler(_worker: WorkerIdentity, _body: bytes) -> web.Response:
            return web.Response(body=tool.pieces(), headers={"Content-Length": str(tool.size)})

        app.router.add_post("/v1/rattler", routes.checked(send_rattler))
    return app


class _Routes:
    def __init__(self, dispatcher: Dispatcher, authenticate: Authenticate) -> None:
        self._dispatcher, self._authenticate = dispatcher, authenticate

    def checked(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler: who is it, does it speak our protocol, is what it says well formed."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Shoal-Protocol") not in SERVED:
                return web.json_response({"error": f"served: {sorted(SERVED)}"}, status=426)
            try:
                worker = await self._authenticate(request.headers)
            except Unauthorized as error:
                _log.warning("a worker was refused: %s", error)
                return web.json_response({"error": str(error)}, status=401)
            try:
                answer = await handler(worker, await request.read())
                is_whole = isinstance(answer, web.StreamResponse)
                return answer if is_whole else web.json_response(answer)
            except (ValueError, KeyError, TypeError) as error:
                _log.exception("%s sent what cannot be read", worker.pod)
                return web.json_response({"error": repr(error)}, status=400)
            except (Fenced, NotAttachedYet) as error:
                return web.json_response({"error": str(error)}, status=503)

        return handle

    async def poll(self, worker: WorkerIdentity, body: bytes) -> dict[str, Any]:
        return await self._dispatcher.poll(worker, json.loads(body))

    async def report(self, worker: WorkerIdentity, body: bytes) -> dict[str, Any]:
        header, blobs = frames.unpack(body)
        groups = [
            (group["job"], group["claim"], list(decode(group["results"], blob)), _seconds(group))
            for group, blob in zip(header["groups"], blobs, strict=False)
        ]
        output: dict[str, list[Output]] = {}
        texts = blobs[len(groups) :]
        for (job, index, attempt), text in zip(header.get("output", ()), texts, strict=True):
            output.setdefault(job, []).append(Output(index, attempt, worker.pod, bytes(text)))
        message = {
            "fatal": _fatal(header.get("fatal")),
            "output": output,
            "number": header.get("number"),
        }
        return await self._dispatcher.report(worker, message, groups)

    async def job(self, worker: WorkerIdentity, body: bytes) -> dict[str, Any]:
        return {"job": self._dispatcher.describe(worker, json.loads(body)["job"])}

    async def upload(self, worker: WorkerIdentity, body: bytes) -> dict[str, Any]:
        granted = self._dispatcher.url_for_result(worker, json.loads(body)["job"])
        return {"key": granted[0], "url": granted[1]} if granted else {"gone": True}


def _fatal(told: Mapping[str, Any] | None) -> Fatal | None:
    if not told:
        return None
    error = None
    if told.get("error"):
        kind, text, trace = map(str, told["error"])
        error = kind, text, trace
    return Fatal(str(told["job"]), str(told["reason"]), str(told["message"]), error)


def _seconds(group: Mapping[str, Any]) -> float:
    """Return how long a group's tasks took; what cannot be is nothing."""
    seconds = float(group["seconds"])
    return seconds if 0 <= seconds < 1e9 else 0.0
