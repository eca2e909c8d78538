"""Reads and writes objects by URL, without any credential: presigned, or ``file://`` at home.

Connections are kept open by host. A failure is tried again a few times, since the caller waits; an
answer of 403 is `Expired`, for which the caller asks the dispatcher for a fresh URL.
"""

from __future__ import annotations

import http.client
import os
import time
from typing import IO
from urllib.parse import SplitResult, unquote, urlsplit

#: Waits between attempts, in seconds.
BACKOFFS = (0.1, 0.4, 1.6, 5.0)
#: How long one read or write on a connection may take, in seconds.
TIMEOUT = 60.0


class ObjectError(Exception):
    """The object cannot be read or written."""


class Expired(ObjectError):
    """The URL is not valid any more."""


class Rejected(ObjectError):
    """The bucket says no, and would say so again."""


class NotThere(ObjectError):
    """There is no such object."""


class Objects:
    """Access to objects for one thread."""

    def __init__(self) -> None:
        """Start without connections."""
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def get(self, url: str, span: tuple[int, int] | None = None) -> bytes:
        """Return the object, or its bytes from `span[0]` up to and without `span[1]`.

        Raises:
            Expired: the URL is not valid any more.
            NotThere: there is no such object.
            ObjectError: it could not be read in several attempts.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            return _read_file(unquote(parts.path), span)
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        return self._retried("GET", parts, headers, None)

    def read(self, url: str, file: IO[bytes]) -> None:
        """Write the object to `file`, from its beginning, piece by piece; raises as `get` does."""
        parts = urlsplit(url)
        if parts.scheme == "file":
            file.write(_read_file(unquote(parts.path), None))
        else:
            self._retried("GET", parts, {}, None, file)

    def put(self, url: str, path: str) -> None:
        """Write the object from the file at `path`, streamed, and only if it does not exist.

        Raises:
            Expired: the URL is not valid any more.
            Rejected: the bucket will not take it.
            ObjectError: it could not be written in several attempts.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            target = unquote(parts.path)
            import shutil

            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target + ".part")
            os.replace(target + ".part", target)
            return
        headers = {"Content-Length": str(os.path.getsize(path)), "If-None-Match": "*"}
        self._retried("PUT", parts, headers, path)

    def _retried(
        self,
        method: str,
        parts: SplitResult,
        headers: dict[str, str],
        path: str | None,
        sink: IO[bytes] | None = None,
    ) -> bytes:
        trouble = ""
        for wait in (*BACKOFFS, 0.0):
            try:
                status, text = self._once(method, parts, headers, path, sink)
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if status in (200, 206):
                    return text
                if status == 412 and method == "PUT" and trouble:
                    return b""  # an attempt before this one, whose answer was lost, wrote it
                trouble = f"HTTP {status}: {text[:300]!r}"
                if status == 403:
                    raise Expired(trouble)
                if status == 404:
                    raise NotThere(f"{parts.netloc}{parts.path}: {trouble}")
                if status < 500 and status not in (408, 429):
                    raise Rejected(f"{method} {parts.netloc}{parts.path}: {trouble}")
            time.sleep(wait)
        raise ObjectError(f"{method} {parts.netloc}{parts.path} failed: {trouble}")

    def _once(
        self,
        method: str,
        parts: SplitResult,
        headers: dict[str, str],
        path: str | None,
        sink: IO[bytes] | None,
    ) -> tuple[int, bytes]:
        target = parts.path + ("?" + parts.query if parts.query else "")
        body: IO[bytes] | None = open(path, "rb") if path else None  # noqa: SIM115
        name = f"{parts.scheme}://{parts.netloc}"
        connection = self._connections.pop(name, None)
        try:
            if connection is None:
                kind = (
                    http.client.HTTPSConnection
                    if parts.scheme == "https"
                    else http.client.HTTPConnection
                )
                connection = kind(parts.netloc, timeout=TIMEOUT)
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            if sink is not None and response.status == 200:
                sink.seek(0)
                sink.truncate()
                copy(response, sink)
            text = response.read()
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        finally:
            if body is not None:
                body.close()
        self._connections[name] = connection
        return response.status, text


def copy(response: http.client.HTTPResponse, sink: IO[bytes]) -> None:
    """Write an answer's body to `sink`; raise OSError if it ends before its time."""
    left = response.length
    while piece := response.read(1 << 20):
        sink.write(piece)
        left = None if left is None else left - len(piece)
    if left:
        raise OSError(f"the answer ended {left} bytes too early")


def _read_file(path: str, span: tuple[int, int] | None) -> bytes:
    try:
        with open(path, "rb") as file:
            if span is None:
                return file.read()
            file.seek(span[0])
            return file.read(span[1] - span[0])
    except FileNotFoundError as error:
        raise NotThere(str(error)) from error
