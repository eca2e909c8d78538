"""The models reach a cluster and come back: apply, get, change, delete."""

from __future__ import annotations

import os
import uuid

import pytest

from shoal.errors import ApiError
from shoal.resources import Deployment, DeploymentSpec, Metadata


def fresh() -> Deployment:
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    name = f"models-{uuid.uuid4().hex[:8]}"
    return Deployment(
        metadata=Metadata(name=name, namespace="default", labels={"made-by": "test"}),
        spec=DeploymentSpec(python="3.11", max_workers=2),
    )


async def test_apply_get_change_and_delete() -> None:
    wanted = fresh()
    made = await wanted.apply()
    try:
        assert (made.spec.max_workers, made.spec.idle_seconds) == (2, 300)
        assert made.metadata.uid and made.metadata.labels == {"made-by": "test"}
        assert (await Deployment.get(wanted.name, namespace="default")).spec == made.spec
        again = await wanted.apply()
        assert again.metadata.generation == made.metadata.generation
        spec = made.spec.model_copy(update={"max_workers": 3})
        changed = await made.model_copy(update={"spec": spec}).apply()
        assert changed.spec.max_workers == 3
    finally:
        await wanted.delete()
        await wanted.delete()
    with pytest.raises(ApiError) as gone:
        await Deployment.get(wanted.name, namespace="default")
    assert gone.value.status == 404


async def test_a_dry_run_asks_the_api_server_and_leaves_nothing() -> None:
    wanted = fresh()
    assert (await wanted.apply(dry_run=True)).spec.idle_seconds == 300
    with pytest.raises(ApiError):
        await Deployment.get(wanted.name, namespace="default")


async def test_what_can_not_change_is_said_in_the_definitions_words() -> None:
    wanted = fresh()
    await wanted.apply()
    try:
        other = wanted.model_copy(update={"spec": DeploymentSpec(python="3.12", max_workers=2)})
        with pytest.raises(ApiError, match="python can't be changed: delete this deployments"):
            await other.apply()
    finally:
        await wanted.delete()


async def test_a_generated_name_comes_back() -> None:
    assert os.environ.get("KUBECONFIG")
    made = await Deployment(metadata=Metadata(generate_name="models-")).apply(namespace="default")
    assert made.name.startswith("models-") and made.name != "models-"
    await made.delete()
