"""A release whose operator a test runs itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.kube import connect

from .release import OTHERS_NAMES, Release


@pytest.fixture
async def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Release]:
    """Install it without an operator, and take it away after the test."""
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    for name in OTHERS_NAMES:
        monkeypatch.delenv(name, raising=False)
    async with await connect() as api, Release(api, tmp_path) as made:
        yield made
