"""What the verbs make of answers that a healthy API server never gives.

The answers come from a small server on loopback; the verbs against a real API server are in
tests/cluster/test_kube_verbs.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from conftest import free_port
from shoal.errors import ApiError, ApiUnreachable, ConfigurationError
from shoal.kube import CONFIGMAPS, PODS, Client, Login, connect

Handler = Callable[[web.Request], Any]


class Server:
    """Answers each request by the next of the given answers; the last one stays."""

    def __init__(self) -> None:
        self.answers: list[Handler] = []
        self.seen: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        handler = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer: web.StreamResponse = await handler(request)
        return answer


def says(status: int, body: Any, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/plain" if isinstance(body, str) else "application/json"
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return handler


def hangs_up(after: bytes = b"") -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if after:
            await answer.prepare(request)
            await answer.write(after)
        assert request.transport is not None
        request.transport.abort()
        return answer

    return handler


def streams(*events: dict[str, Any]) -> Handler:
    return says(200, "".join(json.dumps(event) + "\n" for event in events))


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message, "details": {}}


def item(version: int, name: str = "x") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listed(version: int, *items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


async def nobody() -> str | None:
    return None


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", free_port())
    await site.start()
    made.url = site.name  # type: ignore[attr-defined]
    yield made
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Client]:
    url = server.url  # type: ignore[attr-defined]
    async with Client(Login(url, None, nobody, fixed=True)) as client:
        yield client


async def test_a_refusal_has_status_reason_message_and_details(server: Server, api: Client) -> None:
    body = {**status(404, "NotFound", 'pods "x" not found'), "details": {"name": "x"}}
    server.answers = [says(404, body)]
    with pytest.raises(ApiError) as caught:
        await api.get(PODS, "x", "default")
    error = caught.value
    assert (error.status, error.reason, error.details) == (404, "NotFound", {"name": "x"})
    assert "GET /api/v1/namespaces/default/pods/x" in str(error)
    assert 'pods "x" not found' in str(error)


async def test_a_proxy_in_between_is_quoted(server: Server, api: Client) -> None:
    server.answers = [says(502, "<html>bad gateway</html>")]
    with pytest.raises(ApiError, match="bad gateway") as caught:
        await api.create(PODS, {}, "default")
    assert (caught.value.status, caught.value.reason) == (502, "Unknown")


async def test_nobody_there() -> None:
    async with Client(Login(f"http://127.0.0.1:{free_port()}", None, nobody, fixed=True)) as api:
        with pytest.raises(ApiUnreachable, match="Is the cluster up") as caught:
            await api.get(PODS, "x", "default")
    assert caught.value.status == 0


async def test_too_many_requests_are_sent_again(server: Server, api: Client) -> None:
    busy = says(429, status(429, "TooManyRequests", "later"), **{"Retry-After": "0"})
    server.answers = [busy, busy, says(201, item(1))]
    assert await api.create(PODS, {}, "default") == item(1)
    assert len(server.seen) == 3


async def test_a_get_survives_a_cut_connection(server: Server, api: Client) -> None:
    server.answers = [hangs_up(), says(200, item(1))]
    assert await api.get(PODS, "x", "default") == item(1)


async def test_a_create_whose_answer_is_lost_is_not_repeated(server: Server, api: Client) -> None:
    server.answers = [hangs_up(), says(201, item(1))]
    with pytest.raises(ApiUnreachable):
        await api.create(PODS, {}, "default")
    assert len(server.seen) == 1


async def test_a_conflict_is_told_at_once(server: Server, api: Client) -> None:
    server.answers = [says(409, status(409, "Conflict", "it was changed"))]
    with pytest.raises(ApiError, match="it was changed") as caught:
        await api.replace(PODS, "x", {}, "default")
    assert caught.value.status == 409
    assert len(server.seen) == 1


async def test_deleting_what_is_gone_is_fine(server: Server, api: Client) -> None:
    server.answers = [says(404, status(404, "NotFound", "no"))]
    assert await api.delete(PODS, "x", "default") is None
    with pytest.raises(ApiError):
        await api.delete(PODS, "x", "default", missing_ok=False)


async def test_a_long_list_comes_in_pages(server: Server, api: Client) -> None:
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [item(1, "a")]}
    server.answers = [says(200, first), says(200, listed(7, item(2, "b")))]
    everything = await api.list(PODS, "default", label_selector="a=b")
    assert [found["metadata"]["name"] for found in everything["items"]] == ["a", "b"]
    assert server.seen[1].query["continue"] == "more"
    assert {request.query["labelSelector"] for request in server.seen} == {"a=b"}


async def test_a_watch_lists_first_and_goes_on_where_the_server_ended_it(
    server: Server, api: Client
) -> None:
    server.answers = [
        says(200, listed(5, item(3))),
        streams({"type": "MODIFIED", "object": item(6)}, {"type": "BOOKMARK", "object": item(8)}),
        streams({"type": "DELETED", "object": item(9)}),
    ]
    watch = api.watch(CONFIGMAPS, "default", name="x")
    seen = [(await anext(watch)).type for _ in range(3)]
    await watch.aclose()
    assert seen == ["LISTED", "MODIFIED", "DELETED"]
    versions = [request.query.get("resourceVersion") for request in server.seen]
    assert versions == [None, "5", "8"]
    assert {request.query["fieldSelector"] for request in server.seen} == {"metadata.name=x"}


@pytest.mark.parametrize(
    "forgotten",
    [
        says(410, status(410, "Expired", "too old resource version")),
        streams({"type": "ERROR", "object": status(410, "Expired", "too old resource version")}),
        says(504, status(504, "Timeout", "Too large resource version: 9, current: 3")),
        streams({"type": "ERROR", "object": status(504, "Timeout", "Too large resource version")}),
    ],
    ids=["410", "410 in the stream", "504", "504 in the stream"],
)
async def test_a_watch_lists_again_when_its_version_is_not_known(
    server: Server, api: Client, forgotten: Handler
) -> None:
    server.answers = [
        forgotten,
        says(200, listed(20, item(19))),
        streams({"type": "MODIFIED", "object": item(21)}),
    ]
    watch = api.watch(CONFIGMAPS, "default", resource_version="9")
    first, second = await anext(watch), await anext(watch)
    await watch.aclose()
    assert (first.type, second.type) == ("LISTED", "MODIFIED")
    assert first.object["items"] == [item(19)]


async def test_a_watch_survives_a_cut_in_the_middle_of_a_line(server: Server, api: Client) -> None:
    whole = json.dumps({"type": "MODIFIED", "object": item(6)}).encode() + b"\n"
    server.answers = [
        hangs_up(after=whole + whole[:20]),
        streams({"type": "MODIFIED", "object": item(7)}),
    ]
    watch = api.watch(CONFIGMAPS, "default", resource_version="5")
    seen = [(await anext(watch)).object["metadata"]["resourceVersion"] for _ in range(2)]
    await watch.aclose()
    assert seen == ["6", "7"]
    assert server.seen[1].query["resourceVersion"] == "6"


async def test_a_watch_that_is_forbidden_says_so(server: Server, api: Client) -> None:
    server.answers = [says(403, status(403, "Forbidden", "may not watch"))]
    with pytest.raises(ApiError, match="may not watch"):
        await anext(api.watch(CONFIGMAPS, "default", resource_version="5"))


async def test_a_watch_gives_up_when_told_to(server: Server, api: Client) -> None:
    server.answers = [says(500, status(500, "InternalError", "broken"))]
    with pytest.raises(ApiError, match="broken"):
        await anext(api.watch(CONFIGMAPS, "default", resource_version="5", give_up_seconds=0.2))


async def test_without_any_configuration_the_error_says_where_it_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/does/not/exist")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="/does/not/exist does not exist"):
        await connect()


async def test_an_unknown_context_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = tmp_path_factory.mktemp("kube") / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: []\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    with pytest.raises(ConfigurationError, match="context missing"):
        await connect("missing")
    async with await connect() as api:
        assert api.login.host == "http://127.0.0.1:1"
