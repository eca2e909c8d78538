"""The operator as it runs: makes the parts, starts them in order, and stops all when one ends.

Lease, then authority and the lists, then the dispatcher's port, then the watch: workers of an
operator before this one can report as soon as the port is open, and by then every job is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from uv import find_uv_bin

from shoal import bundle
from shoal.dispatch import Dispatcher
from shoal.dispatch import application as dispatch_application
from shoal.errors import ApiError
from shoal.kube import SERVICES, Client, connect
from shoal.worker import bootstrap

from . import health as probes
from .buckets import Buckets
from .cache import Cache
from .certificates import ROTATE_SECONDS, Authority, ensure_authority, renew, server_context
from .context import Context
from .discovery import Claims
from .events import Recorder
from .identity import Identity
from .lease import Lease
from .metrics import metrics
from .pods import Worker
from .reconcile import Reconciler
from .settings import Settings
from .sweep import Sweeper
from .watching import stop_on_signals, watch

logger = logging.getLogger(__name__)

STALE_FACTOR = 5
"""So many sweeps may be missing before the operator counts as not healthy."""
BUCKET_SECONDS = 10.0
"""So long the operator is not ready for want of the bucket that it is to make."""


async def run(settings: Settings) -> None:
    """Run until a signal comes; raise LeaseLost when somebody else takes over."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    health = probes.Health(stale_after=STALE_FACTOR * settings.sweep_seconds)
    state: dict[str, Reconciler] = {}
    probe_app = probes.application(health, lambda: metrics(state.get("reconciler")))
    async with await connect() as api, _serving(probe_app, settings.health_port):
        lease = Lease(api, settings, os.environ.get("POD_NAME") or socket.gethostname())
        if await _first(lease.take(), stop.wait()):
            return
        try:
            await _operate(settings, api, lease, health, stop, state)
        finally:
            health.ready = False
            await lease.release()


async def _operate(
    settings: Settings,
    api: Client,
    lease: Lease,
    health: probes.Health,
    stop: asyncio.Event,
    state: dict[str, Reconciler],
) -> None:
    authority = await ensure_authority(api, settings)
    context, worker_zip = await _context(
        settings, api, lease, authority, on_change=lambda uid: reconciler.job_changed(uid)
    )
    reconciler = state["reconciler"] = Reconciler(context)
    sweeper = Sweeper(context, reconciler, lambda missed: health.swept(missed=missed))
    reconciler.on_job_gone = sweeper.job_gone
    await _load(reconciler)
    tls = server_context(authority, settings.server_name)
    app = dispatch_application(
        context.dispatcher,
        authenticate=reconciler.authenticate,
        worker_zip=worker_zip,
        environment=reconciler.place_environment,
        uv=Path(find_uv_bin()),
        rattler=[_folder_of(name) for name in ("rattler", "yaml")],
    )
    context.dispatcher.start()
    try:
        async with _serving(app, settings.port, tls):
            reconciler.queue.open()
            # clients upload into the bucket before they create anything
            making = asyncio.ensure_future(_own_bucket(context))
            await asyncio.wait({making}, timeout=BUCKET_SECONDS)
            health.ready = True
            logger.info("ready: dispatcher at %s", context.worker.dispatcher)
            try:
                await _first(
                    stop.wait(),
                    watch(reconciler, health, settings, stop),
                    lease.keep(),
                    sweeper.run(),
                    _rotate(tls, authority, settings.server_name),
                )
            finally:
                health.ready = False
                making.cancel()
                await context.dispatcher.stop()  # answers the polls that wait
    finally:
        await reconciler.close()
        await context.buckets.close()


def _folder_of(package: str) -> Path:
    """The folder of an installed package, which is not imported: it is large."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise RuntimeError(f"{package} is not installed: install shoal[operator]")
    return Path(found.origin).parent


async def _own_bucket(context: Context) -> None:
    if context.settings.create_bucket:
        await context.buckets.make_own()


async def _context(
    settings: Settings,
    api: Client,
    lease: Lease,
    authority: Authority,
    *,
    on_change: Callable[[str], None],
) -> tuple[Context, bytes]:
    cache = Cache()

    async def keys() -> Mapping[str, Any]:
        return await api.request("GET", "/openid/v1/jwks")

    worker_zip, sha256 = await asyncio.to_thread(bundle.build)
    worker = Worker(
        dispatcher=await _dispatcher_url(settings, api),
        authority=authority.certificate.decode(),
        bundle_sha256=sha256,
        bootstrap=bootstrap.SOURCE,
    )
    context = Context(
        settings=settings,
        api=api,
        cache=cache,
        claims=Claims(api, settings),
        dispatcher=Dispatcher(
            secret=authority.mac_key, on_change=on_change, is_known=cache.may_be_unfinished
        ),
        buckets=Buckets(api, settings),
        identity=Identity(cache, keys, audience=settings.audience, mac_key=authority.mac_key),
        recorder=Recorder(api, settings.instance),
        worker=worker,
        lease=lease,
        up_since=time.time(),
    )
    return context, worker_zip


async def _dispatcher_url(settings: Settings, api: Client) -> str:
    """The Service's address: no DNS is needed in the worker's Pod."""
    service = await api.get(SERVICES, settings.service_name, settings.namespace)
    address = service["spec"].get("clusterIP") or ""
    if address in ("", "None"):
        address = settings.server_name
    return f"https://{f'[{address}]' if ':' in address else address}:{settings.port}"


async def _load(reconciler: Reconciler) -> None:
    try:
        await reconciler.load()
    except ApiError as error:
        if error.status == 404:
            raise RuntimeError(
                "the CustomResourceDefinitions of shoal.dev are not installed: "
                "install the chart with crds.enabled=true, or `kubectl apply -f crds/`"
            ) from error
        raise


async def _rotate(tls: Any, authority: Authority, server_name: str) -> None:
    while True:
        await asyncio.sleep(ROTATE_SECONDS)
        renew(tls, authority, server_name)


@contextlib.asynccontextmanager
async def _serving(app: web.Application, port: int, tls: Any = None) -> AsyncIterator[None]:
    # a poll whose worker is gone must not get a claim: its handler ends with the connection
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port, ssl_context=tls).start()
        yield
    finally:
        await runner.cleanup()


async def _first(*awaitables: Awaitable[Any]) -> bool:
    """Wait until the first ends, cancel the others, raise what it raised; True if it was the last
    one."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    return tasks[-1] in done
