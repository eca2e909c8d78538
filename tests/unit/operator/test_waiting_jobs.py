"""Jobs that wait for what is not there yet, say so, and begin when it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from stage import Stage

from shoal_operator.settings import Settings


@pytest.fixture
async def bare(settings: Settings) -> AsyncIterator[Stage]:
    """A stage without a bucket."""
    async with Stage(replace(settings, default_bucket="")) as made:
        yield made


async def test_a_command_begins_when_its_deployment_comes(bare: Stage) -> None:
    bare.apply("Job", command=["true"], deployment={"ref": "pool"})
    await bare.until(lambda: bare.condition("Running") == ("False", "DeploymentNotFound"))
    assert bare.condition("WorkersReady") == ("False", "DeploymentNotFound")
    assert bare.pods() == []
    bare.deployment()
    await bare.pod()
    await bare.until(lambda: bare.condition("Running")[1] == "Pending")
