"""Asking components and the API server how they are."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from cluster import layout
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.pki import Pki

DIRECT = urllib.request.ProxyHandler({})  # never through a proxy: everything is on this machine


class ApiError(ClusterError):
    """The API server's refusal, with its HTTP code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"the API server answered {code}: {message}")


class Api:
    """The API server as the cluster's administrator."""

    def __init__(self, pki: Pki, server: str = layout.APISERVER) -> None:
        self._server = server
        context = client_context(pki)
        self._opener = urllib.request.build_opener(
            DIRECT, urllib.request.HTTPSHandler(context=context)
        )

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Raises ApiError when refused, OSError when there is nobody to ask."""
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode(errors="replace")[:500]) from None

    def apply(self, collection: str, resource: dict[str, Any]) -> None:
        """Create `resource`, or replace the one that there is."""
        try:
            self.request("POST", collection, resource)
        except ApiError as error:
            if error.code != 409:
                raise
            self.request("PUT", f"{collection}/{resource['metadata']['name']}", resource)

    def ready_nodes(self) -> dict[str, bool]:
        """Each registered node, and whether it is Ready."""
        nodes = self.request("GET", "/api/v1/nodes")["items"]
        return {node["metadata"]["name"]: is_ready(node) for node in nodes}


def is_ready(node: dict[str, Any]) -> bool:
    """Whether a Node object says that it is Ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def client_context(pki: Pki) -> ssl.SSLContext:
    """TLS as the administrator."""
    context = ssl.create_default_context(cafile=str(pki.authority))
    context.load_cert_chain(pki.certificate("admin"), pki.key("admin"))
    return context


def is_healthy(component: Component, pki: Pki) -> bool:
    """Whether `component` answers on its health page, or on its socket."""
    if component.socket is not None:
        return _accepts(str(component.socket))
    try:
        handler = urllib.request.HTTPSHandler(context=client_context(pki))
        opener = urllib.request.build_opener(DIRECT, handler)
        with opener.open(component.health, timeout=3) as answer:
            return bool(answer.status == 200)
    except (OSError, ssl.SSLError):
        return False


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(3)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def wait_until(
    condition: Callable[[], bool], *, within: float, otherwise: Callable[[], str]
) -> None:
    """Ask `condition` again and again; after `within` seconds raise ClusterError."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            raise ClusterError(otherwise())
        time.sleep(0.1)
