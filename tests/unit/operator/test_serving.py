"""Certificates that workers can check, probes that tell the truth."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiohttp import ClientSession, web
from cryptography import x509

from shoal_operator.certificates import make_authority, server_context
from shoal_operator.health import Health, application, render


async def test_a_worker_with_the_authority_can_connect_and_nobody_else() -> None:
    authority = make_authority()
    runner = web.AppRunner(web.Application())
    await runner.setup()
    context = server_context(authority, "shoal.shoal-system.svc")
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    other = ssl.create_default_context(cadata=make_authority().certificate.decode())
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="shoal.shoal-system.svc"
        )
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=other, server_hostname="shoal.shoal-system.svc"
            )
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting, server_hostname="shoal.other.svc"
            )
    finally:
        await runner.cleanup()


def test_the_authority_can_sign_nothing_but_servers() -> None:
    certificate = x509.load_pem_x509_certificate(make_authority().certificate)
    limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert limits.value.path_length == 0


def test_health_fails_when_nothing_comes() -> None:
    now = [0.0]
    health = Health(stale_after=10, now=lambda: now[0])
    assert health.trouble() == ""
    now[0] = 11
    assert "no event" in health.trouble()
    health.beat()
    assert health.trouble() == ""


def test_health_fails_when_the_watch_misses_things() -> None:
    health = Health(stale_after=10, now=lambda: 0.0)
    for _ in range(2):
        health.swept(missed=1)
    assert health.trouble() == ""
    health.swept(missed=1)
    assert "the watch did not bring" in health.trouble()
    health.swept(missed=0)
    assert health.trouble() == ""


async def test_the_probes_answer() -> None:
    health = Health(stale_after=10, now=lambda: 0.0)
    runner = web.AppRunner(application(health, lambda: {"shoal_x": ("gauge", "An x.", 1.5)}))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    base = f"http://127.0.0.1:{port}"
    try:
        async with ClientSession() as session:
            async with session.get(f"{base}/healthz") as answer:
                assert answer.status == 200
            async with session.get(f"{base}/readyz") as answer:
                assert answer.status == 503
            health.ready = True
            async with session.get(f"{base}/readyz") as answer:
                assert answer.status == 200
            async with session.get(f"{base}/metrics") as answer:
                assert "shoal_x 1.5" in await answer.text()
    finally:
        await runner.cleanup()


def test_metrics_are_prometheus_text() -> None:
    text = render({"a_total": ("counter", "Things.", 3)})
    assert text == "# HELP a_total Things.\n# TYPE a_total counter\na_total 3\n"
