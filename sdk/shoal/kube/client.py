"""The verbs: one request each, dictionaries in and out, every failure an ApiError.

A request that the server did not take (429, connection refused) is sent again a few times; one that
it may have taken is sent again only if that changes nothing (GET, PUT, DELETE, PATCH). A 401 reads
the configuration again once, since tokens of exec plugins expire.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal

import aiohttp

from shoal.errors import ApiError, ApiUnreachable
from shoal.kube import config, watching
from shoal.kube.kinds import Resource

Object = dict[str, Any]
Sessions = list[aiohttp.ClientSession]
Patch = list[dict[str, Any]]
PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
TRIES = 4
LIMITS = aiohttp.ClientTimeout(total=30.0, sock_connect=5.0)
PAGE = 500


async def connect(context: str | None = None, kubeconfig: str | None = None) -> Client:
    """Read the configuration and return a client; the first request makes the connection."""
    return Client(await config.load(context, kubeconfig), kubeconfig=kubeconfig)


class Client:
    """A connection to one API server, for one event loop."""

    def __init__(self, login: config.Login, *, kubeconfig: str | None = None) -> None:
        self.login = login
        self.companions: dict[object, Any] = {}
        """What others keep for the life of this connection."""
        self._kubeconfig = kubeconfig
        self._session: aiohttp.ClientSession | None = None
        self._retired: Sessions = []
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        type_: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client can be used again and then makes new ones."""
        sessions = [*self._retired, *([self._session] if self._session else [])]
        self._session, self._retired = None, []
        for session in sessions:
            if isinstance(session.connector, aiohttp.TCPConnector):
                # no farewell by TLS: it would outlast a loop that closes now
                await session.connector.close(abort_ssl=True)
            await session.close()
        if sessions:
            await asyncio.sleep(0)  # the loop drops aborted connections in its next round

    # reading

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """Return one object; a missing one is an ApiError with status 404."""
        return await self.request("GET", resource.path(namespace, name, subresource))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
    ) -> Object:
        """Return the whole list, fetched in pages; its metadata has the version to watch from."""
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "limit": None if resource_version == "0" else str(PAGE),
        }
        path = resource.path(namespace)
        whole = await self.request("GET", path, query=query)
        items = whole["items"] = whole.get("items") or []
        page = whole
        while token := page["metadata"].get("continue"):
            query = {**query, "continue": token, "resourceVersion": None}
            page = await self.request("GET", path, query=query)
            items.extend(page.get("items") or [])
        whole["metadata"]["resourceVersion"] = page["metadata"].get("resourceVersion")
        return whole

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        name: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        bookmarks: bool = False,
        give_up_seconds: float | None = None,
    ) -> AsyncGenerator[watching.WatchEvent, None]:
        """Follow objects; see `shoal.kube.watching` for what the events are.

        Starts with a list unless `resource_version` says from where. `bookmarks` yields those too.
        An API server that stays away longer than `give_up_seconds` raises; None waits for ever.
        """
        if name is not None:
            field_selector = f"metadata.name={name}"
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        return watching.watch(
            self,
            resource,
            namespace,
            selectors,
            resource_version=resource_version,
            bookmarks=bookmarks,
            give_up_seconds=give_up_seconds,
        )

    # writing

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        subresource: tuple[str, str] | None = None,
    ) -> Object:
        """Create the object; unknown fields are refused. `subresource` is (name, "token") e.g."""
        path = resource.path(namespace, *(subresource or ()))
        query = {"fieldValidation": "Strict", "fieldManager": "shoal", "dryRun": _all(dry_run)}
        return await self.request("POST", path, query=query, body=body)

    async def replace(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """Replace the object; a `resourceVersion` in the body that is not the last one is a 409."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PUT", path, query={"fieldManager": "shoal"}, body=body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any] | Patch,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        style: Literal["merge", "json", "apply"] = "merge",
        field_manager: str = "shoal",
        dry_run: bool = False,
    ) -> Object:
        """Change the object by a merge patch, a JSON patch (a list), or server-side apply."""
        query = {"fieldManager": field_manager, "dryRun": _all(dry_run)}
        if style == "apply":
            query |= {"force": "true", "fieldValidation": "Strict"}
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, query=query, body=body, content=PATCHES[style])

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        missing_ok: bool = True,
    ) -> Object | None:
        """Delete the object; only if it still has that `uid` or `resource_version` (else a 409)."""
        body: Object = {"propagationPolicy": propagation}
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if given := {name: value for name, value in conditions.items() if value is not None}:
            body["preconditions"] = given
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            return await self.request("DELETE", resource.path(namespace, name), body=body)
        except ApiError as error:
            if missing_ok and error.status == 404:
                return None
            raise

    # the request itself

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: Mapping[str, Any] | Patch | None = None,
        content: str = "application/json",
    ) -> Object:
        """Send one request and return the decoded JSON of the answer."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": content} if data is not None else {}
        answer: Object = json.loads(await self.text(method, path, query, data, headers))
        return answer

    async def text(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Send one request, again where that is safe, and return the answer's text."""
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            pause = 0.1 * 4 ** (attempt - 1)
            login = self.login
            try:
                async with self.open(method, path, query, data, headers) as answer:
                    text = await answer.text()
                    if answer.status < 400:
                        return text
                    error = refusal(method, path, answer.status, text)
                    pause = max(pause, min(_seconds(answer.headers.get("Retry-After")), 10.0))
            except (aiohttp.ClientError, TimeoutError, OSError) as cause:
                error = self._unreachable(method, path, cause)
                error.__cause__ = cause
            if error.status == 401 and not renewed:
                renewed = True
                await self._renew(login)
            elif attempt < TRIES and _may_repeat(method, error):
                await asyncio.sleep(pause)
            else:
                raise error

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        limits: aiohttp.ClientTimeout | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send one request and hold the open response, whatever its status (watches, logs)."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # a watch holds its connection: any limit would be a deadlock
                ssl=self.login.tls or True,
                keepalive_timeout=60,
            )
            self._session = aiohttp.ClientSession(timeout=LIMITS, connector=connector)
        everything = dict(headers or {})
        if token := await self.login.authorization():
            everything["Authorization"] = token
        answer = await self._session.request(
            method,
            self.login.host + path,
            params={key: value for key, value in (query or {}).items() if value is not None},
            data=data,
            headers=everything,
            proxy=self.login.proxy,
            server_hostname=self.login.server_hostname,
            timeout=limits or LIMITS,
        )
        try:
            yield answer
        finally:
            if answer.connection is not None and answer.connection.transport is not None:
                # in the middle of the body; TLS's farewell would outlast a loop that closes now
                answer.connection.transport.abort()
            answer.close()

    async def _renew(self, used: config.Login) -> None:
        """Read the configuration again, once for all requests that were refused with `used`."""
        async with self._renewing:
            if self.login is used and not used.fixed:
                self.login = await config.load(used.context, self._kubeconfig)
                if self._session:
                    self._retired.append(self._session)
                    self._session = None

    def _unreachable(self, method: str, path: str, cause: BaseException) -> ApiUnreachable:
        words = str(cause) or "no answer in time"
        return ApiUnreachable(
            0,
            "Unreachable",
            f"The Kubernetes API at {self.login.host} does not answer ({method} {path}: {words}). "
            "Is the cluster up (`kubectl cluster-info`), and is it the right context?",
        )


def refusal(method: str, path: str, status: int, text: str) -> ApiError:
    """Make the error from the API's Status object, or from whatever a proxy sent instead."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and answer.get("kind") == "Status":
        reason, message = answer.get("reason") or "Unknown", answer.get("message") or ""
        details = answer.get("details")
    else:
        reason, message, details = "Unknown", text.strip()[:500], None
    return ApiError(status, reason, f"{method} {path}: {message or 'refused'}", details)


def _may_repeat(method: str, error: ApiError) -> bool:
    """Tell whether the server did not take the request, or taking it twice changes nothing."""
    if isinstance(error, ApiUnreachable):
        cause = error.__cause__
        if isinstance(cause, TimeoutError | aiohttp.ClientSSLError):
            return False  # waiting longer, or another handshake, won't help
        return method != "POST" or isinstance(cause, aiohttp.ClientConnectorError)
    return error.status == 429 or (error.status == 503 and method == "GET")


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _all(dry_run: bool) -> str | None:
    return "All" if dry_run else None
