"""Events: what `kubectl describe` shows of a custom resource.

They carry the words of `reasons`, and are aggregated: one object for each custom resource and
reason, its count raised.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shoal.kube import EVENTS

from . import names
from .reasons import QUIET, Reason

if TYPE_CHECKING:
    from shoal.kube import Client

    from .cache import CustomResource

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Posted:
    name: str
    count: int
    message: str


class Recorder:
    """Posts Events, one object per resource and reason; what can't be posted is only logged."""

    def __init__(self, api: Client, instance: str, *, remembered: int = 10_000) -> None:
        self._api = api
        self._instance = instance
        self._posted: dict[tuple[str, Reason], _Posted] = {}
        self._remembered = remembered

    async def post(self, resource: CustomResource, reason: Reason, message: str) -> None:
        """Say `message` about `resource`; the same words again only once."""
        key = (resource.uid, reason)
        known = self._posted.get(key)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = message[:1000]
        try:
            if known is not None:
                if known.message == message:
                    return
                known.count, known.message = known.count + 1, message
                body = {"count": known.count, "message": message, "lastTimestamp": now}
                await self._api.patch(EVENTS, known.name, body, resource.namespace)
                return
            digest = hashlib.sha256(f"{resource.uid}/{reason}".encode()).hexdigest()[:16]
            name = f"{resource.name[:200]}.{digest}"
            if len(self._posted) >= self._remembered:
                self._posted.pop(next(iter(self._posted)))
            self._posted[key] = _Posted(name, 1, message)
            event = self._event(resource, reason, message, name, now)
            await self._api.create(EVENTS, event, resource.namespace)
        except Exception as error:
            # An Event is a courtesy: a namespace that is going away, or a restart that finds the
            # Event already there, must not hold up the job.
            logger.debug("no Event %s for %s: %s", reason, resource.full_name, error)

    def _event(
        self, resource: CustomResource, reason: Reason, message: str, name: str, now: str
    ) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": name,
                "namespace": resource.namespace,
                "labels": names.ours(self._instance),
            },
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": resource.kind,
                "namespace": resource.namespace,
                "name": resource.name,
                "uid": resource.uid,
            },
            "reason": str(reason),
            "message": message,
            "type": "Normal" if reason in QUIET else "Warning",
            "source": {"component": "shoal-operator"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
