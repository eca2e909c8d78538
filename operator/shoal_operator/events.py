"""The closed list of reasons, and the Events that carry them to `kubectl describe`.

A reason is one word in three places: a condition's reason, an Event's reason, and the name of the
SDK's exception. Events are aggregated: one object per custom resource and reason, its count raised.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from shoal.kube import EVENTS

from . import names

if TYPE_CHECKING:
    from shoal.kube import Client

    from .cache import CustomResource

logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Every reason that a condition or an Event of ours may carry."""

    # what goes well
    ACCEPTED = "Accepted"
    RUNNING = "Running"
    COMPLETE = "Complete"
    WORKERS_CREATED = "WorkersCreated"
    WORKERS_READY = "WorkersReady"
    # what can be waited for
    PENDING = "Pending"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    IMAGE_PULLING = "ImagePulling"
    PARALLELISM_CAPPED = "ParallelismCapped"
    NOT_CAPPED = "NotCapped"
    # what ends a job
    TASK_FAILED = "TaskFailed"
    COMMAND_FAILED = "CommandFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    CANCELLED = "Cancelled"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    WORKER_NO_CONTACT = "WorkerNoContact"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    BUCKET_NOT_FOUND = "BucketNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"
    ACCESS_DENIED = "AccessDenied"
    CONDITIONAL_WRITES_UNSUPPORTED = "ConditionalWritesUnsupported"
    NO_BUCKET = "NoBucket"
    INPUTS_NOT_FOUND = "InputsNotFound"
    INPUTS_CORRUPT = "InputsCorrupt"
    LEDGER_TAMPERED = "LedgerTampered"
    PYTHON_MISMATCH = "PythonMismatch"
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    POD_REJECTED = "PodRejected"
    DISRUPTIONS_EXCEEDED = "DisruptionsExceeded"
    ID_IN_USE = "IdInUse"

    @classmethod
    def of(cls, text: str, default: Reason) -> Reason:
        """The reason spelled `text`, or `default` for a word that is not ours."""
        try:
            return cls(text)
        except ValueError:
            return default


QUIET = frozenset(
    {
        Reason.COMPLETE,
        Reason.RUNNING,
        Reason.ACCEPTED,
        Reason.WORKERS_CREATED,
        Reason.WORKERS_READY,
        Reason.CANCELLED,
    }
)


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
