"""Of several resources with one spec.id the oldest has it."""

from __future__ import annotations

from typing import Any

import pytest
from parts import Make

from shoal_operator.cache import Cache, CustomResource
from shoal_operator.jobsight import id_owner


def named(job: Make, name: str, created: str, status: dict[str, Any] | None = None) -> Any:
    spec = {"id": "same", "command": ["true"]}
    meta = {"creationTimestamp": created}
    return job(spec, name=name, uid=name, metadata=meta, status=status or {})


def owner(*jobs: CustomResource) -> str | None:
    cache = Cache()
    for one in jobs:
        cache.put(one)
    found = id_owner(cache.jobs_with_id("default", "same"))
    return found.name if found else None


@pytest.mark.parametrize("turned", [False, True])
def test_the_oldest_has_it_whoever_is_seen_first(job: Make, turned: bool) -> None:
    jobs = [named(job, "z", "2026-01-01T00:00:00Z"), named(job, "a", "2026-01-01T00:00:01Z")]
    assert owner(*(reversed(jobs) if turned else jobs)) == "z"


def test_of_one_second_who_began_has_it_else_who_was_seen_first(job: Make) -> None:
    second = "2026-01-01T00:00:00Z"
    began = {"startTime": "2026-01-01T00:00:01Z"}
    assert owner(named(job, "z", second), named(job, "a", second)) == "z"
    assert owner(named(job, "a", second), named(job, "z", second, began)) == "z"


def test_who_was_refused_for_it_does_not_have_it(job: Make) -> None:
    second = "2026-01-01T00:00:00Z"
    refused = {"conditions": [{"type": "Failed", "status": "True", "reason": "IdInUse"}]}
    assert owner(named(job, "a", second, refused), named(job, "z", second)) == "z"


def test_who_is_gone_has_nothing(job: Make) -> None:
    cache = Cache()
    old, young = named(job, "a", "2026-01-01T00:00:00Z"), named(job, "b", "2026-01-01T00:00:01Z")
    cache.put(old)
    cache.put(young)
    cache.put(old)
    cache.drop("a")
    assert cache.jobs_with_id("default", "same") == [young]
    cache.drop("b")
    assert cache.jobs_with_id("default", "same") == []
