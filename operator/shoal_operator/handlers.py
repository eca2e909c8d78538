"""The only kopf handlers: they hand what the watch brings to the reconciler, and do nothing else.

`on.event` alone: it writes nothing to the objects, needs no finalizer, and every event comes. It
has no retry either, which is right, since the reconciler's queue has.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import kopf

from . import names
from .reconcile import Reconciler
from .settings import Settings


def registry(
    reconciler: Reconciler, beat: Callable[[], None], *, everywhere: bool
) -> kopf.OperatorRegistry:
    """Handlers that feed `reconciler`; `beat` is called for each event.

    An operator that serves the namespaces of `everywhere` also learns of new ones.
    """
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            return kopf.login_with_service_account(**kwargs)
        return kopf.login_with_kubeconfig(**kwargs)

    def watch(kind: str) -> None:
        @kopf.on.event(names.GROUP, names.VERSION, names.PLURALS[kind], registry=made, id=kind)
        async def seen(type: str | None, body: kopf.Body, uid: str, **_: Any) -> None:
            beat()
            if type == "DELETED":
                reconciler.resource_gone(kind, uid)
            else:
                reconciler.resource_seen(kind, body, created=type == "ADDED")

    for kind in names.PLURALS:
        watch(kind)

    @kopf.on.event("", "v1", "pods", registry=made, id="Pod")
    async def pod_seen(type: str | None, body: kopf.Body, uid: str, **_: Any) -> None:
        beat()
        if type == "DELETED":
            reconciler.pod_gone(uid)
        else:
            reconciler.pod_seen(body)

    if everywhere:

        @kopf.on.event("", "v1", "namespaces", registry=made, id="Namespace")
        async def namespace_seen(type: str | None, name: str, **_: Any) -> None:
            beat()
            if type == "ADDED" and not name.startswith("kube-"):
                await reconciler.look(name)

    return made


class _NothingToCompare(kopf.DiffBaseStorage):
    """In place of kopf's copies of each object, which only its change handlers would look at.

    kopf makes one at every event, at more than the cost of all that we do with the event.
    """

    def build(self, **_: Any) -> Any:
        """Return nothing to compare."""
        return None

    def fetch(self, **_: Any) -> Any:
        """Return nothing to compare with."""
        return None

    def store(self, **_: Any) -> None:
        """Store nothing: no change handler was run."""


def operator_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf's settings: no annotations, no Events, no peering; Pods filtered by the server."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.persistence.finalizer = f"{names.GROUP}/finalizer"
    made.persistence.diffbase_storage = _NothingToCompare()
    made.scanning.disabled = True
    made.watching.chunk_size = 500
    made.watching.connect_timeout = 5.0
    made.networking.request_timeout = 20.0
    made.process.ultimate_exiting_timeout = 10.0
    made.watching.label_selectors["v1", "pods"] = names.selector(settings.instance)
    return made
