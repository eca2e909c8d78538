"""The worker's calls to the dispatcher: HTTPS to one address, checked against one CA.

Each thread that calls has a `Line` of its own, a connection that is kept open. A call that gets no
answer raises `Unreachable`; whoever called decides when to try again. Nothing is retried here,
since only the caller knows whether repeating is right.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from typing import IO, Any
from urllib.parse import urlsplit

from .objects import copy

#: How long a call that does not wait for work may take, in seconds.
CALL_SECONDS = 30.0
#: A projected token is read again after this long, in seconds; the kubelet renews it in time.
TOKEN_SECONDS = 60.0


class Unreachable(Exception):
    """The dispatcher did not answer, or not as a dispatcher does: try again later."""


class Refused(Exception):
    """The dispatcher does not take this worker: wrong token, wrong protocol."""


class Line:
    """One connection to the dispatcher, made anew when it breaks."""

    def __init__(self, url: str, *, protocol: str, server_name: str, ca: str, token_file: str):
        """`server_name` is checked against the certificate, since `url` may name an address."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._server_name, self._token_file = server_name, token_file
        self._protocol = protocol
        self._context = ssl.create_default_context(cadata=ca) if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._token, self._read = "", float("-inf")

    def call(
        self, path: str, body: bytes | dict[str, Any], timeout: float = CALL_SECONDS
    ) -> dict[str, Any]:
        """POST `body` (JSON, or a frame's bytes) and return the answer.

        Raises:
            Unreachable: no answer, or one that says "later".
            Refused: the dispatcher does not take this worker.
        """
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = self._headers()
        for fresh in (False, True):
            # a connection that was kept may have been closed meanwhile: that is no failure
            kept = self._connection is not None and not fresh
            try:
                connection = self._open(timeout)
                connection.request("POST", path, data, headers)
                response = connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if kept and not isinstance(error, socket.timeout):
                    continue
                raise Unreachable(f"{type(error).__name__}: {error}") from error
            if response.status == 200:
                answer: dict[str, Any] = json.loads(text)
                return answer
            raise _error(response.status, text)
        raise Unreachable("the connection broke twice")

    def fetch(self, path: str, file: IO[bytes]) -> None:
        """POST to `path`, and write the answer, which may be large, to `file`.

        Raises:
            Unreachable: no answer, or not the whole of it.
            Refused: the dispatcher does not take this worker.
        """
        self.close()
        try:
            connection = self._open(CALL_SECONDS)
            connection.request("POST", path, b"", self._headers())
            response = connection.getresponse()
            if response.status != 200:
                raise _error(response.status, response.read())
            copy(response, file)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        if self._connection is None or self._connection.sock is None:  # or it was closed for us
            sock = socket.create_connection((self._host, self._port), CALL_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_hostname=self._server_name)
            self._connection = http.client.HTTPConnection(self._host, self._port)
            self._connection.sock = sock
        self._connection.sock.settimeout(timeout)
        return self._connection

    def _headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer " + self._bearer(), "Shoal-Protocol": self._protocol}

    def _bearer(self) -> str:
        now = time.monotonic()
        if now - self._read > TOKEN_SECONDS:
            with open(self._token_file, encoding="ascii") as file:
                self._token, self._read = file.read().strip(), now
        return self._token


def _error(status: int, text: bytes) -> Exception:
    words = f"HTTP {status}: {text[:500]!r}"
    return Refused(words) if status in (401, 426) else Unreachable(words)


def line_from_environment(protocol: str) -> Line:
    """Return a line to the dispatcher that the Pod's environment names."""
    return Line(
        os.environ["SHOAL_DISPATCHER"],
        protocol=protocol,
        server_name=os.environ.get("SHOAL_SERVER_NAME", ""),
        ca=os.environ.get("SHOAL_CA", ""),
        token_file=os.environ["SHOAL_TOKEN_FILE"],
    )
