"""An index of Python and Debian packages in a namespace, which the test makes itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

from namespaces import Place, condition

from shoal.kube import CONFIGMAPS, PODS, SERVICES

PORT = 8080

FROM_FOLDER = """\
import os
names = [name for name in sorted(os.listdir("/wheels")) if not name.startswith("..")]
files = {name: open("/wheels/" + name, "rb").read() for name in names}
"""
"""Python that makes `files`, contents by name: those of the namespace's ConfigMap."""

_SERVE = """
import http.server
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = [part for part in self.path.split("/") if part]
        known = [f for f in files if f.split("-")[0].replace("_", "-") == parts[-1]]
        channel = "_".join(parts[1:])
        if parts[0] == "conda" and channel in files:
            data = files[channel]
        elif parts[0] in ("files", "debian") and parts[-1] in files:
            data = files[parts[-1]]
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
    name: str,
    version: str,
    files: Mapping[str, str],
    *,
    needs: str = "",
    script: str = "",
    python: str = "",
    tag: str = "py3-none-any",
) -> tuple[str, bytes]:
    """Return file name and bytes of a wheel; `script` is "command = module:function"."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Python: {python}\n" if python else ""
    members = {
        **files,
        f"{info}/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        f"Tag: {tag}\n",
    }
    if script:
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    rows = [f"{file},{_digest(text)},{len(text)}" for file, text in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, text in members.items():
            archive.writestr(file, text)
    return f"{name}-{version}-{tag}.whl", buffer.getvalue()


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def debian(
    name: str, version: str, files: Mapping[str, tuple[bytes, int]], *, needs: str = ""
) -> tuple[str, bytes, str]:
    """Return file name and bytes of a .deb, and what the list of a repository says of it.

    `files` are contents and modes by their paths; of a link, what it leads to and `S_IFLNK`.
    """
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
    control += "Maintainer: a test <test@example.com>\nDescription: made by a test\n"
    control += f"Depends: {needs}\n" if needs else ""
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar({"./control": (control.encode(), 0o644)}),
        "data.tar.gz": _tar({f"./{path}": file for path, file in files.items()}),
    }
    data = b"!<arch>\n"
    for part, content in parts.items():
        data += f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    file = f"{name}_{version}_all.deb"
    sha256 = hashlib.sha256(data).hexdigest()
    return file, data, f"{control}Filename: {file}\nSize: {len(data)}\nSHA256: {sha256}\n"


def repository(*packages: tuple[str, bytes, str]) -> dict[str, bytes]:
    """Return the files of a Debian repository with these packages."""
    listed = "\n".join(text for _, _, text in packages)
    return {"Packages": listed.encode(), **{name: data for name, data, _ in packages}}


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, (data, mode) in files.items():
            entry = tarfile.TarInfo(path)
            if stat.S_ISLNK(mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, data.decode()
            else:
                entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def manifests(
    wheels: Mapping[str, bytes], image: str, files: str = FROM_FOLDER
) -> list[dict[str, Any]]:
    """Return what serves the wheels in a namespace: the Pod `index`, and what it needs."""
    container = {
        "name": "index",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", files + _SERVE],
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
    return f"{_server(namespace)}/simple/"


def source(namespace: str) -> str:
    """Return the line of a sources.list for the Debian packages there."""
    return f"deb [trusted=yes] {_server(namespace)}/debian ./"


def channel(namespace: str, name: str) -> str:
    """Return the address of a conda channel there, whose files `conda_channel.channel` made."""
    return f"{_server(namespace)}/conda/{name}"


def _server(namespace: str) -> str:
    return f"http://index.{namespace}.svc.cluster.local:{PORT}"


async def serve(
    place: Place, wheels: Mapping[str, bytes], image: str, *, files: str = FROM_FOLDER
) -> str:
    """Serve the wheels in the namespace; return the index's URL."""
    bodies = manifests(wheels, image, files)
    for resource, body in zip((CONFIGMAPS, PODS, SERVICES), bodies, strict=True):
        await place.api.create(resource, body, place.namespace)
    async with asyncio.timeout(60):
        while not await _is_ready(place):
            await asyncio.sleep(0.2)
    return url(place.namespace)


async def _is_ready(place: Place) -> bool:
    pods = await place.pods("app=index")
    return any(condition(pod["status"], "Ready").get("status") == "True" for pod in pods)
