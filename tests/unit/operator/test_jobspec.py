"""What the dispatcher is told of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shoal_operator.jobspec import dispatch_spec
from shoal_operator.resolve import resolve
from shoal_operator.settings import Settings

Make = Callable[..., Any]
ITEMS = {"items": {"inline": [1, 2, 3]}}


def told(job: Any, settings: Settings) -> Any:
    return dispatch_spec(job, resolve(job, lambda _: None, settings), settings.cluster_id)


def test_what_a_job_leaves_open_has_its_defaults(job: Make, settings: Settings) -> None:
    spec = told(job(), settings)
    assert (spec.max_attempts, spec.max_disruptions, spec.backoff) == (1, 5, 1.0)
    assert (spec.timeout, spec.more_memory, spec.suspended) == (None, False, False)
    assert spec.memory == 512 * 2**20


@pytest.mark.parametrize("kind", ["Job", "MapJob"])
def test_retries_times_and_pauses_are_passed_on(job: Make, settings: Settings, kind: str) -> None:
    asked = {
        "function": {"name": "f.f"},
        "resources": {"memory": "1.5Gi"},
        "maxAttempts": 3,
        "retryWithMoreMemory": True,
        "taskTimeoutSeconds": 60,
        "backoffSeconds": 0,
        "suspend": True,
    }
    spec = told(job(asked | (ITEMS if kind == "MapJob" else {}), kind=kind), settings)
    assert (spec.max_attempts, spec.more_memory, spec.memory) == (3, True, 3 * 2**29)
    assert (spec.timeout, spec.backoff, spec.suspended) == (60.0, 0.0, True)


def test_only_a_map_that_says_so_is_speculated_on(job: Make, settings: Settings) -> None:
    spec = {"function": {"name": "f.f"}, **ITEMS}
    assert not told(job(spec, kind="MapJob"), settings).speculation
    assert told(job(spec | {"speculation": True}, kind="MapJob"), settings).speculation
