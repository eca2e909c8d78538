"""A task that failed used what its whole container did: the worker's processes share the memory."""

from __future__ import annotations

import pytest

from shoal.worker import memory
from shoal.worker.memory import Peak


def test_a_failure_tells_the_containers_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_POD_UID", "u")
    monkeypatch.setattr(memory, "memory_in_use", lambda: 7 << 40)
    peak = Peak()
    peak.fails()
    assert peak.measure() == 7 << 20
    assert peak.measure() < 1 << 20


def test_outside_of_a_pod_the_containers_memory_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SHOAL_POD_UID", raising=False)
    monkeypatch.setattr(memory, "memory_in_use", lambda: 7 << 40)
    peak = Peak()
    peak.fails()
    assert peak.measure() < 1 << 20
