"""Why a pool has no workers: images, scheduling, quota, silence. Pure.

A pool's trouble is shown in the condition WorkersReady of every job that waits for it. It ends
those jobs at once where it cannot heal (`fatal_at`) and else after their start deadline, and only
while no worker is connected: a map with one worker goes on and says how many are missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .observe import PodFact
from .pools import version_of
from .reasons import Reason
from .settings import Settings

IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
        "SignatureValidationFailed",
    }
)
START_REASONS = frozenset({"CreateContainerError", "RunContainerError", "StartError"})
EARLY_ENDS = 3
"""So many Pods in a row that end without having reached the operator are no accident."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps workers away; `fatal_at` in seconds since the epoch, None for what can heal."""

    reason: Reason
    message: str
    fatal_at: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What Pods of a pool went through that are no more."""

    early_ends: int = 0
    """Pods in a row that ended without having reached the operator."""
    last_end: str = ""
    """How the last of them ended."""
    refused: Trouble | None = None
    """What the API server said to the last create."""
    retry_at: float = 0.0
    """Before this time no Pod is created."""


def pool_trouble(
    pods: Iterable[PodFact],
    connected: Collection[str],
    history: History,
    settings: Settings,
    *,
    image: str,
) -> Trouble | None:
    """The trouble of a pool, or None."""
    if history.refused is not None:
        return history.refused
    if history.early_ends >= EARLY_ENDS:
        return Trouble(
            Reason.WORKER_NO_CONTACT,
            f"{history.early_ends} Pods in a row ended before they reached the operator; "
            f"the last: {history.last_end}",
            0.0,
        )
    alive = [pod for pod in pods if pod.alive]
    found = [pod_trouble(pod, settings, image=image) for pod in alive if pod.uid not in connected]
    troubles = [trouble for trouble in found if trouble is not None]
    if not troubles:
        return None
    worst = min(troubles, key=lambda t: (t.fatal_at is None, t.fatal_at or 0.0))
    deadlines = [t.fatal_at if t is not None else None for t in found]
    if len(found) < len(alive) or None in deadlines:
        return Trouble(worst.reason, worst.message, None)
    return Trouble(worst.reason, worst.message, max(d for d in deadlines if d is not None))


def pod_trouble(pod: PodFact, settings: Settings, *, image: str) -> Trouble | None:
    """The trouble of one Pod that has not reached the operator."""
    if pod.waiting_reason == "InvalidImageName":
        return Trouble(Reason.IMAGE_PULL_FAILED, f"image {image!r} is no image name", 0.0)
    if pod.waiting_reason in IMAGE_REASONS:
        return Trouble(
            Reason.IMAGE_PULL_FAILED,
            f"image {image!r} can't be pulled: {pod.waiting_message or pod.waiting_reason}"
            f"{_remedy(image, settings)}",
            pod.created + settings.image_pull_seconds,
        )
    if pod.waiting_reason == "CreateContainerConfigError":
        return Trouble(
            Reason.CREATE_CONTAINER_CONFIG_ERROR,
            f"Pod {pod.name} can't start: {pod.waiting_message}{_missing(pod)}",
            pod.created + settings.missing_seconds,
        )
    if pod.waiting_reason in START_REASONS:
        return Trouble(
            Reason.WORKER_NO_CONTACT,
            f"Pod {pod.name} can't start ({pod.waiting_reason}): {pod.waiting_message}",
            pod.created + settings.contact_seconds,
        )
    if pod.unschedulable:
        return Trouble(Reason.UNSCHEDULABLE, pod.unschedulable)
    return None


def _remedy(image: str, settings: Settings) -> str:
    """What to do about an image that nobody named but the operator, or nothing."""
    version = version_of(image, settings)
    if not version:
        return ""
    return (
        f" (the operator's image for Python {version}: ask for a version that there is, name an "
        "image, or correct the chart's workers.pythonImages)"
    )


def no_contact(pod: PodFact, settings: Settings, now: float) -> Trouble:
    """The trouble of a Pod that runs, but was not heard of in time."""
    return Trouble(
        Reason.WORKER_NO_CONTACT,
        f"Pod {pod.name} runs, but has not reached the operator within "
        f"{settings.contact_seconds:g} s: a NetworkPolicy may be in the way",
        now,
    )


def is_stale(
    pod: PodFact, connected: Collection[str], settings: Settings, *, now: float, up_since: float
) -> bool:
    """Whether a running Pod has been silent for too long to be counted as a worker."""
    return (
        pod.alive
        and pod.uid not in connected
        and pod.started > 0
        and now >= max(pod.started, up_since) + settings.contact_seconds
    )


def _missing(pod: PodFact) -> str:
    """What to do where a Pod can't start for want of a Secret or ConfigMap."""
    if not any(kind in pod.waiting_message.lower() for kind in ("secret", "configmap")):
        return ""
    return (
        ". What environmentVariables and envFrom name must be in namespace "
        f"{pod.namespace}, with that key"
    )
