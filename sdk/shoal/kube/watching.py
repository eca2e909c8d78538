"""A watch that goes on: across the server's time limit, cut connections and expired versions.

What comes out is level-triggered. `LISTED` carries a whole list and replaces all that the reader
knows: it comes first where no version was given, and again whenever the server has forgotten the
version we were at (410 Gone) or does not have it yet (504 Too large resource version). `ADDED`,
`MODIFIED` and `DELETED` carry one object. Versions advance with bookmarks too, so that a quiet
watch does not expire.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from shoal.errors import ApiError, ApiUnreachable
from shoal.kube.kinds import Resource

if TYPE_CHECKING:
    from shoal.kube.client import Client

WATCH_SECONDS = 240.0  # the server ends the watch, and we open the next one where it ended
SILENCE_SECONDS = 100.0  # bookmarks come about once a minute; longer silence is a dead connection
LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class WatchEvent:
    """`type` is LISTED, ADDED, MODIFIED, DELETED or (if asked for) BOOKMARK.

    `object` is the object, or for LISTED the list with its `items`.
    """

    type: str
    object: dict[str, Any]


async def watch(
    api: Client,
    resource: Resource,
    namespace: str | None,
    selectors: dict[str, str | None],
    *,
    resource_version: str | None,
    bookmarks: bool,
    give_up_seconds: float | None,
) -> AsyncGenerator[WatchEvent, None]:
    """Yield events until the reader stops; see `Client.watch`."""
    version = resource_version
    failures, since = 0, time.monotonic()
    while True:
        try:
            if version is None:
                everything = await api.list(
                    resource,
                    namespace,
                    label_selector=selectors["labelSelector"],
                    field_selector=selectors["fieldSelector"],
                )
                version = everything["metadata"]["resourceVersion"]
                yield WatchEvent("LISTED", everything)
            async with aclosing(_once(api, resource.path(namespace), selectors, version)) as events:
                async for event in events:
                    failures, since = 0, time.monotonic()
                    version = event.object["metadata"]["resourceVersion"]
                    if bookmarks or event.type != "BOOKMARK":
                        yield event
            failures, since = 0, time.monotonic()  # the server's own time limit
        except ApiError as error:
            if error.status == 410 or (error.status == 504 and "resource version" in str(error)):
                version = None
            elif error.may_heal:
                if isinstance(error.__cause__, TimeoutError):
                    version = None  # silence: perhaps of a server that has gone back in time
                if give_up_seconds is not None and time.monotonic() - since > give_up_seconds:
                    raise
            else:
                raise
            failures += 1
            if failures > 1:
                pause = min(0.1 * 2 ** min(failures, 10), LONGEST_PAUSE)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))


async def _once(
    api: Client, path: str, selectors: dict[str, str | None], version: str
) -> AsyncGenerator[WatchEvent, None]:
    """Yield the events of one connection; a normal end is the server's time limit."""
    seconds = WATCH_SECONDS * random.uniform(0.8, 1.0)
    query = {
        **selectors,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(int(seconds)),
    }
    limits = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_SECONDS)
    try:
        async with api.open("GET", path, query, limits=limits) as answer:
            if answer.status >= 400:
                raise _status_error(await answer.text(), answer.status, path)
            buffer = bytearray()
            async for chunk in answer.content.iter_any():
                buffer += chunk
                *lines, rest = buffer.split(b"\n")
                buffer = rest
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        code = event["object"].get("code") or 500
                        raise _status_error(json.dumps(event["object"]), code, path)
                    yield WatchEvent(event["type"], event["object"])
    except (aiohttp.ClientError, TimeoutError, OSError) as cause:
        words = str(cause) or "no answer in time"
        message = f"The watch on {path} at {api.login.host} broke off: {words}"
        raise ApiUnreachable(0, "Unreachable", message) from cause


def _status_error(text: str, status: int, path: str) -> ApiError:
    from shoal.kube.client import refusal

    return refusal("WATCH", path, status, text)
