"""What holds for all tests, wherever they run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ON_CLUSTER = ("tests/cluster", "tests/docs/", "tests/faults/test_on_")
"""What looks at the cluster, hurts it, or makes others: one after the other, in one process."""

BESIDE = (
    "tests/cluster/test_bad_input",
    "tests/cluster/test_code_parts",
    "tests/cluster/test_conda",
    "tests/cluster/test_crds",
    "tests/cluster/test_environments",
    "tests/cluster/test_examples",
    "tests/cluster/test_external_secrets",
    "tests/cluster/test_git",
    "tests/cluster/test_kube_verbs",
    "tests/cluster/test_manifests",
    "tests/cluster/test_no_bucket",
    "tests/cluster/test_private_images",
    "tests/cluster/test_python_versions",
    "tests/cluster/test_sdk_refusals",
    "tests/cluster/test_variables",
    "tests/docs/test_snippets",
)
"""What only builds and runs in namespaces of its own: one after the other, in another process."""

HURTS = "chaos"
"""The fixture of tests that have the cluster, and the operator on it, for themselves."""

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
os.environ["SHOAL_MIRROR_ENVIRONMENT"] = "false"  # this one has what tests need, and not jobs
os.environ.pop("PYTHONUNBUFFERED", None)  # tasks on this machine would print in more pieces


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let nobody else at the cluster while a test hurts it."""
    if not request.node.nodeid.startswith(ON_CLUSTER):
        yield
        return
    cluster = hashlib.sha256(os.environ.get("KUBECONFIG", "").encode()).hexdigest()[:8]
    name, alone = f"shoal-tests-{os.getuid()}-{cluster}", HURTS in request.fixturenames
    folder = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        with locked(folder / f"{name}-next", alone=True):  # who waits for all others is next
            stack.enter_context(locked(folder / f"{name}-turn", alone=alone))
        yield


@contextmanager
def locked(path: Path, *, alone: bool) -> Iterator[None]:
    """Hold a lock, alone or with others who do not hold it alone."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


class Lanes(LoadScopeScheduling):
    """What needs the cluster is two portions; each other test may run beside them."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(BESIDE):
            return "beside"
        return "cluster" if nodeid.startswith(ON_CLUSTER) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Distribute the tests of `pytest --numprocesses 2`."""
    return Lanes(config, log)
