"""`/healthz`, `/readyz` and `/metrics`, without TLS, on a port of their own.

Healthy means that something came from the cluster lately: an event, or a sweep that saw that the
watch has missed nothing. A watch that died silently makes the sweep find objects that the cache
does not have; after a few of those the kubelet should start the container again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from aiohttp import web

MISSES = 3
"""Sweeps in a row that found something which the watch did not bring."""


class Health:
    """What the probes ask."""

    def __init__(self, *, stale_after: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._stale_after = stale_after
        self._beat = now()
        self._missed = 0
        self.ready = False

    def beat(self) -> None:
        """Something came from the cluster."""
        self._beat = self._now()

    def swept(self, *, missed: int) -> None:
        """A sweep is done; `missed` objects had not come by the watch."""
        self.beat()
        self._missed = self._missed + 1 if missed else 0

    def trouble(self) -> str:
        """Why the operator is not healthy; empty when it is."""
        silent = self._now() - self._beat
        if silent > self._stale_after:
            return f"no event and no sweep for {silent:.0f} s"
        if self._missed >= MISSES:
            return f"{self._missed} sweeps in a row found objects that the watch did not bring"
        return ""


def application(
    health: Health, metrics: Callable[[], Mapping[str, tuple[str, str, float]]]
) -> web.Application:
    """The web application; `metrics` gives (type, help, value) by name."""

    async def healthz(_: web.Request) -> web.Response:
        trouble = health.trouble()
        return web.Response(text=f"{trouble or 'ok'}\n", status=500 if trouble else 200)

    async def readyz(_: web.Request) -> web.Response:
        text = "ok" if health.ready else "not ready: waiting for the Lease or the first lists"
        return web.Response(text=f"{text}\n", status=200 if health.ready else 503)

    async def serve_metrics(_: web.Request) -> web.Response:
        return web.Response(text=render(metrics()), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", serve_metrics)
    return app


def render(metrics: Mapping[str, tuple[str, str, float]]) -> str:
    """Prometheus' text format."""
    lines = []
    for name, (kind, text, value) in metrics.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
    return "\n".join(lines) + "\n"
