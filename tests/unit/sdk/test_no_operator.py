"""A cluster that takes our resources, but has no operator: who waits, and who leaves."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import shoal
from conftest import free_port
from shoal import cluster_runs, discovery, errors

IMAGE = shoal.Deployment.container_image("localhost/any")


class Unattended:
    """The part of an API server that a submission meets; nobody ever writes a status."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.made: list[str] = []
        self.patched: list[Any] = []
        self.status: dict[str, Any] = {}
        self.version = 1
        self.closing = False

    async def configmap(self, _: web.Request) -> web.Response:
        return web.json_response({"data": {"clusterId": "c"}})

    async def read(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        answer = web.StreamResponse()
        await answer.prepare(request)
        seen: set[str] = set()
        while not self.closing:
            for name, job in list(self.jobs.items()):
                if name not in seen:
                    seen.add(name)
                    event = {"type": "ADDED", "object": job}
                    await answer.write(json.dumps(event).encode() + b"\n")
            await asyncio.sleep(0.01)
        return answer

    async def create(self, request: web.Request) -> web.Response:
        job = await request.json()
        self.version += 1
        job["metadata"] |= {"uid": f"u{self.version}", "resourceVersion": str(self.version)}
        self.jobs[job["metadata"]["name"]] = job | ({"status": self.status} if self.status else {})
        self.made.append(job["metadata"]["name"])
        return web.json_response(job, status=201)

    async def patch(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.patched.append(body["spec"])
        return web.json_response(self.jobs[request.match_info["name"]])

    async def delete(self, request: web.Request) -> web.Response:
        body = await request.json()
        job = self.jobs.pop(request.match_info["name"])
        assert body["preconditions"]["uid"] == job["metadata"]["uid"]
        return web.json_response({"kind": "Status", "status": "Success"})


@pytest.fixture
async def unattended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Unattended]:
    server, app, port = Unattended(), web.Application(), free_port()
    jobs = "/apis/shoal.dev/v1alpha1/namespaces/default/jobs"
    app.router.add_get("/api/v1/namespaces/default/configmaps/shoal", server.configmap)
    app.router.add_get(jobs, server.read)
    app.router.add_post(jobs, server.create)
    app.router.add_patch(jobs + "/{name}", server.patch)
    app.router.add_delete(jobs + "/{name}", server.delete)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    config = {"current-context": "c", "clusters": [cluster], "contexts": [context], "users": []}
    (tmp_path / "config").write_text(json.dumps(config))
    for variable in discovery.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(cluster_runs, "OPERATOR_SECONDS", 0.3)
    discovery.forget()
    yield server
    server.closing = True
    await runner.cleanup()


async def test_it_is_told_in_time_and_the_resource_is_taken_back(unattended: Unattended) -> None:
    with pytest.raises(errors.NoOperator, match=r"jobs\.shoal\.dev/mine .* within 0 s") as caught:
        await shoal.run_command("true", shoal.Kubernetes(), None, IMAGE, name="mine")
    assert "kubectl get pods" in str(caught.value)
    assert unattended.made == ["mine"]
    assert unattended.jobs == {}


async def test_fire_and_forget_leaves_it_for_an_operator_that_comes_later(
    unattended: Unattended,
) -> None:
    await shoal.run_command("true", shoal.Kubernetes(), None, IMAGE, wait_for_result=False)
    assert len(unattended.jobs) == 1


@pytest.mark.parametrize("face", ["asyncio", "blocking"])
@pytest.mark.parametrize("detach", [False, True])
async def test_ctrl_c_cancels_the_job_or_says_how_to_attach_to_it(
    unattended: Unattended, face: str, detach: bool
) -> None:
    program = f"""
        import asyncio, signal, shoal
        from shoal import blocking
        signal.signal(signal.SIGINT, signal.default_int_handler)
        host = shoal.Kubernetes()
        call = dict(deployment=shoal.Deployment.container_image("localhost/any"), name="mine",
                    detach_on_interrupt={detach})
        if {face!r} == "asyncio":
            asyncio.run(shoal.run_command("true", host, **call))
        else:
            blocking.run_command("true", host, **call)
    """
    full = {"type": "WorkersReady", "status": "False", "reason": "Full", "message": "no room"}
    unattended.status = {"phase": "Pending", "conditions": [full]}  # who waits says so
    words = (sys.executable, "-c", textwrap.dedent(program))
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    async with asyncio.timeout(30):
        assert b"no room" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    text = said.decode()
    assert process.returncode == -signal.SIGINT, text
    assert text.rstrip().endswith("KeyboardInterrupt")
    assert text.count("Traceback") <= 3, text
    assert "never" not in text, text
    hint = "shoal: jobs.shoal.dev/mine goes on without you; shoal.attach('mine', host) follows it"
    assert (hint in text) == detach
    cancelled = {"cancel": True, "ttlSecondsAfterFinished": 60}
    assert unattended.patched == ([] if detach else [cancelled])
    assert list(unattended.jobs) == ["mine"]


async def test_without_a_bucket_only_such_commands_are_sent(unattended: Unattended) -> None:
    with pytest.raises(errors.NoBucket, match="SHOAL_BUCKET and SHOAL_ENDPOINT_URL"):
        await shoal.run_function(len, shoal.Kubernetes(), None, shoal.Deployment(), [""])
    assert unattended.made == []
