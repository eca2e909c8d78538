"""What holds for all tests, wherever they run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ON_CLUSTER = ("cluster", "cluster_tool", "docs", "faults/test_on_cluster.py")
"""What looks at the cluster, or hurts it: one after the other, in one process."""

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
os.environ.pop("PYTHONUNBUFFERED", None)  # tasks on this machine would print in more pieces


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Tests that need no cluster may run beside those that do."""
    for item in items:
        where = item.path.relative_to(HERE)
        if any(where.is_relative_to(part) for part in ON_CLUSTER):
            item.add_marker(pytest.mark.xdist_group("cluster"))
