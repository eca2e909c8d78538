"""What this worker holds: claims that were handed to it and are not wholly acknowledged yet.

Shared by the agent's threads. Every poll tells it to the dispatcher, which thereby learns of claims
that never arrived, and after a restart of those that a dispatcher before it handed out.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Any

from . import ranges


class Holdings:
    """The claims in this worker's hands."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._claims: dict[str, dict[str, Any]] = {}
        self._returned: dict[str, dict[int, None]] = {}

    def add(self, claim: dict[str, Any]) -> None:
        """Note a claim as it came from the dispatcher."""
        left = dict.fromkeys(ranges.each(ranges.parse(claim["tasks"])))
        with self._lock:
            self._claims[claim["id"]] = {**claim, "left": left}

    def acknowledged(self, claim_id: str, tasks: Iterable[int]) -> None:
        """Note that outcomes of a claim's tasks are durable."""
        with self._lock:
            claim = self._claims.get(claim_id)
            if claim is None:
                return
            for task in tasks:
                claim["left"].pop(task, None)
            if not claim["left"]:
                del self._claims[claim_id]

    def drop(self, job: str) -> None:
        """Let go of all claims of a job."""
        with self._lock:
            for claim_id in [one for one, claim in self._claims.items() if claim["job"] == job]:
                del self._claims[claim_id]
                self._returned.pop(claim_id, None)

    def give_back(self, job: str, begun: Collection[tuple[str, int]]) -> None:
        """Give back every task of a job but those that have `begun`, as (claim id, task)."""
        with self._lock:
            for claim_id, claim in list(self._claims.items()):
                if claim["job"] != job:
                    continue
                kept = {task: None for task in claim["left"] if (claim_id, task) in begun}
                returned = {task: None for task in claim["left"] if task not in kept}
                if returned:
                    self._returned.setdefault(claim_id, {}).update(returned)
                claim["left"], claim["closed"] = kept, True
                if not kept:
                    del self._claims[claim_id]

    def returns_told(self) -> None:
        """Note that the dispatcher has heard of what was given back."""
        with self._lock:
            self._returned.clear()

    def holds(self, claim_id: str) -> bool:
        """Tell whether the claim is still ours."""
        return claim_id in self._claims

    def may_begin(self, claim_id: str) -> bool:
        """Tell whether tasks of the claim may be begun: it is ours, and nothing was given back."""
        claim = self._claims.get(claim_id)
        return claim is not None and "closed" not in claim

    def wire(self) -> dict[str, Any]:
        """Return the claims, and what was given back of them, as a poll tells them."""
        with self._lock:
            held = [
                {
                    "id": claim["id"],
                    "job": claim["job"],
                    "attempt": claim["attempt"],
                    "tasks": ranges.of(claim["left"]),
                }
                for claim in self._claims.values()
            ]
            returned = [[claim, ranges.of(tasks)] for claim, tasks in self._returned.items()]
            return {"held": held, "returned": returned} if returned else {"held": held}

    def __bool__(self) -> bool:
        """Tell whether anything is held."""
        return bool(self._claims)
