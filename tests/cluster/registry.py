"""A registry with a password, which has one image: that of an archive as `docker save` writes it.

It is on the loopback, where containerd speaks HTTP, and the embedded cluster's nodes share it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Registry:
    """Who may pull, from where, and who has come."""

    username: str
    password: str
    port: int = 0
    served: dict[str, int] = field(default_factory=dict)
    """Requests that were answered, by user; those that were refused under ""."""

    @property
    def repository(self) -> str:
        return f"127.0.0.1:{self.port}/team/python"

    def user_of(self, authorization: str | None) -> str:
        """The user of a request, or "" where the password is not his."""
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        user = self.username if authorization == f"Basic {login}" else ""
        self.served[user] = self.served.get(user, 0) + 1
        return user


class Image:
    """The blobs of an archive by digest, and the manifest that names them."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        with tarfile.open(archive) as tar:
            (about,) = json.loads(_read(tar, "manifest.json"))
            self.config = _read(tar, about["Config"])
            sizes = [tar.getmember(name).size for name in about["Layers"]]
        digests = json.loads(self.config)["rootfs"]["diff_ids"]
        self._layers = dict(zip(digests, zip(about["Layers"], sizes, strict=True), strict=True))
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(f"{kind}.config.v1+json", sha256(self.config), len(self.config)),
            "layers": [
                _descriptor(f"{kind}.layer.v1.tar", digest, size)
                for digest, (_, size) in self._layers.items()
            ],
        }
        self.manifest = json.dumps(manifest).encode()

    @contextmanager
    def layer(self, digest: str) -> Iterator[tuple[int, IO[bytes]]]:
        name, size = self._layers[digest]
        with tarfile.open(self._archive) as tar:
            member = tar.extractfile(name)
            assert member is not None
            yield size, member


class Handler(BaseHTTPRequestHandler):
    """Answers as a registry does; `serving` says for which one."""

    protocol_version = "HTTP/1.1"
    registry: Registry
    image: Image

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self.registry.user_of(self.headers.get("Authorization")):
            self.begin(401, 0, **{"WWW-Authenticate": 'Basic realm="registry"'})
        elif "/manifests/" in self.path:
            self.small(self.image.manifest, MANIFEST)
        elif self.path.endswith(f"/blobs/{sha256(self.image.config)}"):
            self.small(self.image.config, "application/octet-stream")
        elif "/blobs/" in self.path:
            self.layer(self.path.rpartition("/")[2])
        else:
            self.begin(200, 0)

    def layer(self, digest: str) -> None:
        with self.image.layer(digest) as (size, layer):
            self.begin(200, size)
            if self.command == "GET":
                shutil.copyfileobj(layer, self.wfile)

    def small(self, raw: bytes, kind: str) -> None:
        self.begin(200, len(raw), **{"Content-Type": kind, "Docker-Content-Digest": sha256(raw)})
        if self.command == "GET":
            self.wfile.write(raw)

    def begin(self, status: int, size: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(size), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(archive: Path) -> Iterator[Registry]:
    """Serve the image of an archive to one user, under any tag."""
    registry = Registry("robot", "pass:word")
    bound = type("Bound", (Handler,), {"registry": registry, "image": Image(archive)})
    with ThreadingHTTPServer(("127.0.0.1", 0), bound) as server:
        registry.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member is not None, name
    return member.read()
