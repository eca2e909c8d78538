"""The smallest operator there can be: it answers each resource with a status. Run by `floors`."""

from __future__ import annotations

from typing import Any

import kopf

GROUP, VERSION, PLURAL = "bench.shoal.dev", "v1", "echoes"


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
        patch.status["phase"] = "Complete"
