"""An API server in memory, and the parts of an operator around it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from shoal.dispatch import Dispatcher, JobSpec, JobStore
from shoal.errors import ApiError
from shoal.kube import Resource
from shoal_operator import names
from shoal_operator.buckets import Buckets
from shoal_operator.cache import Cache
from shoal_operator.context import Context
from shoal_operator.discovery import Claims
from shoal_operator.events import Recorder
from shoal_operator.identity import Identity
from shoal_operator.lease import Lease
from shoal_operator.pods import Worker
from shoal_operator.reconcile import Reconciler
from shoal_operator.settings import Settings

Body = dict[str, Any]
Make = Callable[..., Any]


class Api:
    """Objects by resource, namespace and name; lists ignore selectors."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Body] = {}
        self._versions = itertools.count(100)

    def add(self, plural: str, body: Body) -> Body:
        meta = body["metadata"]
        meta.setdefault("uid", f"uid-{meta['name']}")
        meta["resourceVersion"] = str(next(self._versions))
        self.objects[plural, meta.get("namespace", ""), meta["name"]] = body
        return body

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Body:
        return self._find(resource, name, namespace)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> Body:
        found = [
            body
            for (plural, where, _), body in self.objects.items()
            if plural == resource.plural and namespace in (None, where)
        ]
        return {"items": found, "metadata": {}}

    async def create(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        body = {**body, "metadata": {**body["metadata"], "namespace": namespace or ""}}
        return self.add(resource.plural, body)

    async def patch(
        self, resource: Resource, name: str, body: Body, namespace: str | None = None, **_: Any
    ) -> Body:
        known = self._find(resource, name, namespace)
        status = merged(known.get("status") or {}, body.get("status") or {})
        return self.add(resource.plural, {**known, "status": status})

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, **_: Any
    ) -> None:
        self.objects.pop((resource.plural, namespace or "", name), None)

    def _find(self, resource: Resource, name: str, namespace: str | None) -> Body:
        try:
            return self.objects[resource.plural, namespace or "", name]
        except KeyError:
            raise ApiError(404, "NotFound", f"no {resource.plural} {name}") from None


def merged(old: Body, patch: Body) -> Body:
    """What a JSON merge patch makes of an object."""
    new = {key: value for key, value in old.items() if key not in patch}
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            new[key] = merged(old[key], value)
        elif value is not None:
            new[key] = value
    return new


class Listener(Dispatcher):
    """A dispatcher that notes which Pods it was told to live, and which to be gone and how."""

    def __init__(self, cache: Cache) -> None:
        super().__init__(
            secret=b"s",
            on_change=lambda job: self.changed(job),
            is_known=cache.may_be_unfinished,
        )
        self.changed: Callable[[str], None] = lambda job: None
        self.lost: dict[str, Mapping[str, Any]] = {}
        self.live: dict[str, list[str]] = {}
        self.fresh: dict[str, bool] = {}

    async def attach(self, spec: JobSpec, store: JobStore, pool: str, **how: Any) -> None:
        self.live[spec.id], self.fresh[spec.id] = list(how["live"]), how["fresh"]
        await super().attach(spec, store, pool, **{**how, "fresh": True})

    def worker_gone(self, pod: str, why: str, **how: Any) -> None:
        self.lost[pod] = {"why": why, **how}
        super().worker_gone(pod, why, **how)


def operator(api: Api, settings: Settings) -> tuple[Context, Reconciler, Listener]:
    """Make the parts of an operator that is not running."""
    cache = Cache()
    client = cast(Any, api)

    async def keys() -> Mapping[str, Any]:
        return {}

    dispatcher = Listener(cache)
    context = Context(
        settings=settings,
        api=client,
        cache=cache,
        claims=Claims(client, settings),
        dispatcher=dispatcher,
        buckets=Buckets(client, settings),
        identity=Identity(cache, keys, audience="shoal", mac_key=b"k"),
        recorder=Recorder(client, settings.instance),
        worker=Worker(dispatcher="", authority="", bundle_sha256="", bootstrap=""),
        lease=Lease(client, settings, "operator"),
        up_since=time.time(),
    )
    return context, Reconciler(context), dispatcher


def resource_body(kind: str, name: str, uid: str, **fields: Any) -> Body:
    """A custom resource as the API server shows it."""
    meta = {
        "name": name,
        "namespace": "default",
        "uid": uid,
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": fields.pop("created", "2026-01-01T00:00:00Z"),
    }
    spec = fields.pop("spec", {"function": {"name": "math.gcd", "args": [12, 18]}})
    return {"kind": kind, "metadata": meta, "spec": spec, "status": fields.pop("status", {})}


def pod_body(uid: str, owner: str = "owner", pool: str = "0123456789ab", **worker: Any) -> Body:
    """A worker Pod; `worker` is the state of its container, running unless said otherwise."""
    state = worker or {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    return {
        "metadata": {
            "name": f"worker-{uid}",
            "namespace": "default",
            "uid": uid,
            "labels": {names.POOL: pool},
            "ownerReferences": [{"uid": owner, "controller": True}],
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "status": {
            "phase": "Failed" if "terminated" in state else "Running",
            "containerStatuses": [{"name": names.WORKER_CONTAINER, "state": state}],
        },
    }
