"""How a worker's Pod ended: in words for people, and in the dispatcher's. Pure.

What is charged hangs on it: a task that used up the memory pays with an attempt, one whose Pod was
taken away with a disruption, and a death that nobody can explain is not charged to a whole chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .observe import PodFact

LOST_TRACK = frozenset({"ContainerStatusUnknown", "Unknown"})
"""Reasons of a container whose end nobody saw: its node was restarted, or its runtime was."""
BY_SIGNAL = frozenset({128 + 9, 128 + 15})
"""Exit codes of a container that was killed or told to end."""
OUT_OF_TIME = "DeadlineExceeded"
"""Reason of a Pod that the kubelet ended for its activeDeadlineSeconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the dispatcher is told of a worker that is gone."""

    why: str
    running: tuple[str, int] | None
    """Job and task that its note names."""
    unknown: bool
    """It died, and nobody knows of which task."""
    cause: Literal["oom", "disruption"]


def ending(pod: PodFact | None) -> Ending:
    """What to tell of a Pod by its last state; None if it vanished unseen."""
    reason = gone_reason(pod)
    running = running_task(pod.termination_message) if pod is not None else None
    died = pod is not None and pod.exit_code not in (None, 0) and reason in ("oom", "exited")
    told = pod.message.strip() if pod is not None else ""
    return Ending(
        why=f"{reason}: {told[-500:]}" if told else reason,
        running=running,
        unknown=died and running is None,
        cause="oom" if reason == "oom" else "disruption",
    )


def gone_reason(pod: PodFact | None) -> str:
    """Why a worker is gone, in a word: deleted, evicted, oom, exited, node_lost."""
    if pod is None:
        return "deleted"
    if (
        pod.reason in ("NodeLost", "NodeShutdown", "Terminated")
        or pod.disrupted in ("DeletionByTaintManager", "DeletionByPodGC")
        or pod.exit_reason in LOST_TRACK
    ):
        return "node_lost"
    if pod.reason in ("Evicted", "Preempting") or pod.disrupted:
        return "evicted"
    # A container whose child was killed alone (cgroup v1) still ends as OOMKilled, later and well.
    if pod.exit_reason == "OOMKilled" and pod.exit_code != 0:
        return "oom"
    return "deleted" if pod.deleting else "exited"


def ended_by_itself(pod: PodFact) -> bool:
    """Whether its own program ended it, and not well: no signal, no node, nobody who deleted it."""
    if pod.exit_code in (None, 0) or pod.deleting:
        return False
    reason = gone_reason(pod)
    return reason == "oom" or (reason == "exited" and pod.exit_code not in BY_SIGNAL)


def running_task(note: str) -> tuple[str, int] | None:
    """Job and task in a worker's termination message ("<job> <task> <attempt>"), if it has them."""
    words = note.split()
    if len(words) == 3 and words[1].isascii() and words[1].isdigit():
        return words[0], int(words[1])
    return None


def end_of(pod: PodFact) -> str:
    """How a Pod ended, for people."""
    words = [f"Pod {pod.name}"]
    if pod.exit_code is not None:
        words.append(f"exited with {pod.exit_code}")
    if pod.exit_reason and pod.exit_reason not in ("Error", "Completed"):
        words.append(f"({pod.exit_reason})")
    if pod.reason:
        words.append(f"({pod.reason})")
    text = " ".join(words)
    message = pod.message or pod.termination_message
    return f"{text}: {message.strip()[-500:]}" if message.strip() else text
