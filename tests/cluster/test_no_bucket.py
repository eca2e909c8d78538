"""Without any bucket: commands run and say how they ended, functions say what is missing.

The operator runs beside the cluster here, for one namespace, with no bucket configured; the release
that serves the whole cluster leaves it that namespace.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from namespaces import Place, condition

from shoal.kube import SECRETS, SERVICES


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def bare(place: Place) -> AsyncIterator[Place]:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "bare"},
        "spec": {"ports": [{"port": 8443}]},
    }
    await place.api.create(SERVICES, service, place.namespace)
    settings = {
        "NAMESPACE": place.namespace,
        "INSTANCE": f"bare-{place.namespace}",
        "CLUSTER_ID": "bare",
        "SERVICE_NAME": "bare",
        "WATCH_NAMESPACES": place.namespace,
        "PORT": str(free_port()),
        "HEALTH_PORT": str(free_port()),
        "DEFAULT_IMAGE": "docker.io/library/python:3.11-slim",
    }
    environment = {f"SHOAL_OP_{key}": value for key, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shoal_operator",
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"ready: dispatcher" not in (line := await process.stderr.readline()):
            assert line, "the operator ended before it was ready"
    yield place
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


async def test_a_command_runs_and_its_output_is_in_the_pod(bare: Place) -> None:
    status = await bare.run("Job", "hello", {"command": ["sh", "-c", "echo $HOME; exit 0"]})
    assert (status["phase"], status["exitCode"]) == ("Complete", 0)
    words = ["kubectl", "logs", "-n", bare.namespace, "-l", "shoal.dev/job=hello"]
    async with asyncio.timeout(10):
        while True:  # for a moment the kubelet may not know yet that the container ended
            done = await asyncio.to_thread(
                subprocess.run, words, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
    assert done.stdout == "/shoal\n"


async def test_a_command_that_fails_shows_its_code(bare: Place) -> None:
    status = await bare.run("Job", "three", {"command": ["sh", "-c", "exit 3"]})
    assert (status["phase"], status["exitCode"]) == ("Failed", 3)
    assert condition(status, "Failed")["reason"] == "CommandFailed"


async def test_a_command_sees_what_stands_in_a_secret(bare: Place) -> None:
    ref = {"secretKeyRef": {"name": "login", "key": "token"}}
    where = {
        "environmentVariables": [{"name": "TOKEN", "valueFrom": ref}],
        "envFrom": [{"prefix": "ALL_", "secretRef": {"name": "login"}}],
    }
    command = ["sh", "-c", 'test "$TOKEN$ALL_token" = abcabc']
    await bare.apply("Job", "sees", {"command": command, "deployment": where})
    waits = await bare.until(
        "Job",
        "sees",
        lambda s: (
            condition(s, "WorkersReady").get("status") == "False"
            and condition(s, "WorkersReady")["reason"] == "CreateContainerConfigError"
        ),
    )
    assert 'secret "login" not found' in condition(waits, "WorkersReady")["message"]
    body = {"metadata": {"name": "login"}, "stringData": {"token": "abc"}}
    await bare.api.create(SECRETS, body, bare.namespace)
    assert (await bare.end("Job", "sees"))["exitCode"] == 0


async def test_a_function_needs_a_bucket(bare: Place) -> None:
    status = await bare.run("Job", "gcd", {"function": {"name": "math.gcd", "args": [4, 6]}})
    assert condition(status, "Failed")["reason"] == "NoBucket"
