"""An index of Python packages in a namespace, with wheels that the test makes itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

from namespaces import Place, condition

from shoal.kube import CONFIGMAPS, PODS, SERVICES

PORT = 8080

_SERVE = """\
import http.server, os
files = sorted(os.listdir("/wheels"))
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = [part for part in self.path.split("/") if part]
        known = [f for f in files if f.split("-")[0].replace("_", "-") == parts[-1]]
        if parts[0] == "files" and parts[-1] in files:
            data = open("/wheels/" + parts[-1], "rb").read()
        elif parts[0] == "simple" and known:
            links = "".join('<a href="/files/%s">%s</a>' % (f, f) for f in known)
            data = ("<!DOCTYPE html><html><body>%s</body></html>" % links).encode()
        else:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if parts[0] == "simple" else "application/zip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("", 8080), Index).serve_forever()
"""


def wheel(
    name: str, version: str, files: Mapping[str, str], *, needs: str = "", script: str = ""
) -> tuple[str, bytes]:
    """Return file name and bytes of a pure wheel; `script` is "command = module:function"."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members = {
        **files,
        f"{info}/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    if script:
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    rows = [f"{file},{_digest(text)},{len(text)}" for file, text in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, text in members.items():
            archive.writestr(file, text)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def manifests(wheels: Mapping[str, bytes], image: str) -> list[dict[str, Any]]:
    """Return what serves the wheels in a namespace: the Pod `index`, and what it needs."""
    container = {
        "name": "index",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _SERVE],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "wheels", "mountPath": "/wheels"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "wheels", "configMap": {"name": "wheels"}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "wheels"},
            "binaryData": {n: base64.b64encode(data).decode() for n, data in wheels.items()},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "index", "labels": {"app": "index"}},
            "spec": spec,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "index"},
            "spec": {"selector": {"app": "index"}, "ports": [{"port": PORT}]},
        },
    ]


def url(namespace: str) -> str:
    """Return the index's address, as Pods see it."""
    return f"http://index.{namespace}.svc.cluster.local:{PORT}/simple/"


async def serve(place: Place, wheels: Mapping[str, bytes], image: str) -> str:
    """Serve the wheels in the namespace; return the index's URL."""
    for resource, body in zip((CONFIGMAPS, PODS, SERVICES), manifests(wheels, image), strict=True):
        await place.api.create(resource, body, place.namespace)
    async with asyncio.timeout(60):
        while not await _is_ready(place):
            await asyncio.sleep(0.2)
    return url(place.namespace)


async def _is_ready(place: Place) -> bool:
    pods = await place.pods("app=index")
    return any(condition(pod["status"], "Ready").get("status") == "True" for pod in pods)
