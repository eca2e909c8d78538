"""Writes statuses: only when they differ, important news at once, progress within a budget.

A status patch is the dearest thing on a warm call's way, so a job that completes within a blink is
written once, complete. A map's progress is written at an interval that grows with the number of
active jobs: about 50 patches a second for the whole operator.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from shoal.errors import ApiError
from shoal.kube import DEPLOYMENTS, JOBS, MAPJOBS, Client
from shoal.kube import Resource as ApiResource

from . import names
from .cache import Cache, CustomResource
from .status import merge_patch

logger = logging.getLogger(__name__)

BUDGET = 50.0
"""Patches a second for progress."""
DEPLOYMENT_SECONDS = 5.0
"""Least time between two counts of a Deployment's workers: short calls make them idle and busy."""
BLINK = 0.03
"""Within so many seconds of its acceptance a job is not said to be Running."""
API: dict[str, ApiResource] = {
    names.JOB: JOBS,
    names.MAP_JOB: MAPJOBS,
    names.DEPLOYMENT: DEPLOYMENTS,
}


def is_urgent(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether news can't wait: a change of state or of a condition, or the first result."""
    if old.get("phase") != new.get("phase"):
        return True
    if not _done(old) and _done(new):
        return True
    return _signs(old) != _signs(new)


def is_first_word(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the new status only says that the job was taken, or that it runs."""
    return new.get("phase") in ("Pending", "Running") and not _done(new)


def _done(status: Mapping[str, Any]) -> int:
    return int(status.get("succeeded") or 0) + int(status.get("failed") or 0)


def _signs(status: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(c["type"], c["status"], c["reason"]) for c in status.get("conditions") or ()]


class StatusWriter:
    """Writes the statuses of custom resources."""

    def __init__(self, api: Client, cache: Cache) -> None:
        self._api = api
        self._cache = cache
        self._written: dict[str, float] = {}
        self.active = 1
        """Number of active jobs, among which the budget is shared."""
        self.patches = 0

    async def write(
        self, resource: CustomResource, status: Mapping[str, Any], *, accepted: float = 0.0
    ) -> float:
        """Write `status` if it differs and is due; return when it is due, or 0."""
        patch = merge_patch(resource.status, status)
        if not patch:
            return 0.0
        now = time.time()
        due = self._due(resource, status, accepted)
        if due > now:
            return due
        await self._patch(resource, patch)
        return 0.0

    def forget(self, uid: str) -> None:
        """The resource is gone."""
        self._written.pop(uid, None)

    def _due(self, resource: CustomResource, status: Mapping[str, Any], accepted: float) -> float:
        old = resource.status
        if accepted and is_first_word(old, status):
            blink = accepted + BLINK
            if blink > time.time():
                return blink
        if is_urgent(old, status):
            return 0.0
        interval = (
            DEPLOYMENT_SECONDS
            if resource.kind == names.DEPLOYMENT
            else max(1, self.active) / BUDGET
        )
        return self._written.get(resource.uid, 0.0) + interval

    async def _patch(self, resource: CustomResource, patch: Mapping[str, Any]) -> None:
        body = {"metadata": {"uid": resource.uid}, "status": patch}
        self._written[resource.uid] = time.time()
        logger.debug("%s: writing its status", resource.full_name)
        try:
            answer = await self._api.patch(
                API[resource.kind], resource.name, body, resource.namespace, subresource="status"
            )
        except ApiError as error:
            if error.status in (404, 409):
                # It is gone, or another one has its name: the watch will say so.
                logger.debug("no status for %s: %s", resource.full_name, error)
                return
            raise
        self.patches += 1
        logger.debug(
            "%s: status written, now %s", resource.full_name, patch.get("phase", "as it was")
        )
        self._cache.put(CustomResource.of(resource.kind, answer))
