"""The smallest operator there can be: it answers each resource with a status. Run by `floors`."""

from __future__ import annotations

from typing import Any

import kopf

GROUP, VERSION, PLURAL = "bench.shoal.dev", "v1alpha1", "echoes"
CONDITION = {
    "status": "True",
    "reason": "Complete",
    "message": "done",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 1,
}
#: As large as the status of a job that is complete.
STATUS = {
    "phase": "Complete",
    "id": "x" * 24,
    "total": 1,
    "succeeded": 1,
    "failed": 0,
    "progress": "1/1",
    "duration": "20ms",
    "startTime": "2026-01-01T00:00:00Z",
    "completionTime": "2026-01-01T00:00:00Z",
    "ledger": {"length": 1, "digest": "0" * 64},
    "conditions": [{"type": kind, **CONDITION} for kind in ("Complete", "Failed", "Finished")],
}


@kopf.on.startup()
def quiet(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True


@kopf.on.event(GROUP, VERSION, PLURAL)
async def answer(
    event: dict[str, Any], patch: kopf.Patch, status: dict[str, Any], **_: Any
) -> None:
    if event["type"] in (None, "ADDED") and not status.get("phase"):
        patch.status.update(STATUS)
