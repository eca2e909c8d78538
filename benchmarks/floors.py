"""What the cluster itself needs: the floor under every figure."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from shoal import kube

ROOT = Path(__file__).parents[1]
NAMESPACE = os.environ.get("SHOAL_NAMESPACE", "default")
IMAGE = "docker.io/library/python:3.11-slim"
ECHOES = kube.Resource(group="bench.shoal.dev", version="v1alpha1", plural="echoes", kind="Echo")


def definition() -> dict[str, Any]:
    """Return jobs.shoal.dev's definition under a group of its own: the same checks, no operator."""
    crd: dict[str, Any] = yaml.safe_load((ROOT / "crds" / "jobs.yaml").read_text())
    crd["metadata"] = {"name": "echoes.bench.shoal.dev"}
    crd["spec"]["group"] = ECHOES.group
    crd["spec"]["names"] = {"kind": "Echo", "plural": "echoes", "singular": "echo"}
    return crd


async def round_trip(api: kube.Client, times: int) -> float:
    """Return the median seconds of create -> kopf -> status -> watch."""
    crd = definition()
    await api.create(kube.CRDS, crd)
    try:
        await _established(api)
        echo = subprocess.Popen(  # noqa: ASYNC220 - it only starts
            [sys.executable, "-m", "kopf", "run", "--quiet", "-n", NAMESPACE, "echo.py"],
            cwd=Path(__file__).parent,
        )
        try:
            return await _answers(api, times)
        finally:
            echo.terminate()
            echo.wait()
    finally:
        await api.delete(kube.CRDS, "echoes.bench.shoal.dev")


async def _established(api: kube.Client) -> None:
    for _ in range(100):
        found = await api.get(kube.CRDS, "echoes.bench.shoal.dev")
        conditions = found.get("status", {}).get("conditions") or []
        if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("the bench's CRD was not established within 5 s")


async def _answers(api: kube.Client, times: int) -> float:
    created: dict[str, float] = {}
    seen: dict[str, float] = {}
    answered = asyncio.Event()
    listening = asyncio.Event()

    async def watch() -> None:
        listening.set()
        async for echo in _objects(api, ECHOES):
            name = echo["metadata"]["name"]
            if echo.get("status", {}).get("phase") and name not in seen:
                seen[name] = time.perf_counter()
                answered.set()

    watching = asyncio.create_task(watch())
    await listening.wait()
    payload = {"sha256": "0" * 64, "size": 500, "python": "3.11"}
    spec = {"id": "x" * 24, "function": {"payload": payload}, "deployment": {"python": "3.11"}}
    for n in range(times + 1):
        name = f"echo-{n}"
        body = {
            "apiVersion": ECHOES.api_version,
            "kind": "Echo",
            "metadata": {"name": name},
            "spec": spec,
        }
        answered.clear()
        created[name] = time.perf_counter()
        await api.create(ECHOES, body, NAMESPACE)
        async with asyncio.timeout(30):
            while name not in seen:
                await answered.wait()
                answered.clear()
    watching.cancel()
    return statistics.median(seen[name] - created[name] for name in list(created)[1:])


async def _objects(
    api: kube.Client, resource: kube.Resource, name: str | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Yield each object as it is, and again whenever it changed."""
    async for event in api.watch(resource, NAMESPACE, name=name):
        listed = event.object["items"] if event.type == "LISTED" else [event.object]
        for one in listed:
            yield one


def pod(name: str, *, token: bool) -> dict[str, Any]:
    """Return a Pod whose first Python line leaves the time in its termination message.

    With `token` it has a projected token, as every worker must: a kubelet looks for a Pod's volumes
    every 0.3 s.
    """
    source = {"serviceAccountToken": {"path": "token", "audience": "bench"}}
    volumes = [{"name": "token", "projected": {"sources": [source]}}] if token else []
    mounts = [{"name": "token", "mountPath": "/run/token"}] if token else []
    script = "import time; t = time.time(); open('/dev/termination-log', 'w').write(repr(t))"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "volumes": volumes,
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "command": ["python", "-c", script],
                    "volumeMounts": mounts,
                }
            ],
        },
    }


async def bare_pod(api: kube.Client, times: int, *, token: bool) -> tuple[float, float]:
    """Return median seconds from create to the first Python line, and to Succeeded."""
    first_lines, completions = [], []
    for n in range(times):
        name = f"bench-pod-{n}"
        began, clock = time.time(), time.perf_counter()
        await api.create(kube.PODS, pod(name, token=token), NAMESPACE)
        async with asyncio.timeout(60):
            async for found in _objects(api, kube.PODS, name):
                if found.get("status", {}).get("phase") == "Succeeded":
                    break
        completions.append(time.perf_counter() - clock)
        state = found["status"]["containerStatuses"][0]["state"]
        first_lines.append(json.loads(state["terminated"]["message"]) - began)
        await api.delete(kube.PODS, name, NAMESPACE)
    return statistics.median(first_lines), statistics.median(completions)
