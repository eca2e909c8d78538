"""The one machine that this folder's real tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `cluster` is run from the repository's root, and is no installed package.
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

from isolated_machine import REPOSITORY, Machine, hold  # noqa: E402

from cluster import folders  # noqa: E402


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which nothing runs yet; binaries and images are those of the user's cache."""
    main = folders.from_environment()
    build = [sys.executable, "-m", "cluster", "build"]
    embedded = {**os.environ, "SHOAL_CLUSTER": "embedded"}
    embedded.pop("SHOAL_KUBECONFIG", None)
    subprocess.run(build, cwd=REPOSITORY, env=embedded, check=True)
    cache = tmp_path_factory.mktemp("cache")
    for name in ("bin", "images"):
        (cache / name).symlink_to(getattr(main, name))
    with hold() as holder:
        machine = Machine(cache.resolve(), holder)
        yield machine
        machine.cluster("down", check=False)
        for pid in machine.processes():
            os.kill(pid, signal.SIGKILL)
