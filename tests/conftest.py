"""What holds for all tests, wherever they run."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ON_CLUSTER = ("tests/cluster", "tests/docs/", "tests/faults/test_on_")
"""What looks at the cluster, hurts it, or makes others: one after the other, in one process."""

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
os.environ["SHOAL_MIRROR_ENVIRONMENT"] = "false"  # this one has what tests need, and not jobs
os.environ.pop("PYTHONUNBUFFERED", None)  # tasks on this machine would print in more pieces


class Lanes(LoadScopeScheduling):
    """All that needs the cluster is one portion; each other test may run beside it."""

    def _split_scope(self, nodeid: str) -> str:
        return "cluster" if nodeid.startswith(ON_CLUSTER) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Distribute the tests of `pytest --numprocesses 2`."""
    return Lanes(config, log)
