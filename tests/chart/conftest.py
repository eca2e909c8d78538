"""The chart, rendered once for each set of values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rendering import CHART, KUBERNETES, Release, helm


@pytest.fixture(scope="session")
def render() -> Callable[..., Release]:
    """Render with a values file of ci/ (its stem) and `key=value` settings."""
    known: dict[tuple[str, ...], Release] = {}

    def rendered(
        values: str | None = None,
        *sets: str,
        release: str = "shoal",
        namespace: str = "shoal-system",
    ) -> Release:
        words = ["template", release, str(CHART), "--namespace", namespace]
        words += ["--kube-version", KUBERNETES, "--set", "clusterId=tests"]
        words += ["--values", str(CHART / "ci" / f"{values}-values.yaml")] if values else []
        words += [word for setting in sets for word in ("--set", setting)]
        key = tuple(words)
        if key not in known:
            done = helm(*words)
            assert done.returncode == 0, done.stderr
            known[key] = Release(done.stdout)
        return known[key]

    return rendered
