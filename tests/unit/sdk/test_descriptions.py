"""Hosts, Resources, buckets, deployments, results, errors: what they take, what they refuse."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import re
from typing import Any

import pytest

import shoal
from shoal import errors


def test_resources_honour_what_is_there() -> None:
    assert shoal.Resources().requests() == (None, None, None)
    assert shoal.Resources(logical_cpu=0.5).requests() == ("500m", None, None)
    assert shoal.Resources(memory_gb=1.5).requests() == (None, str(3 * 2**29), None)
    assert shoal.Resources(0, 0).requests() == (None, None, None)
    assert shoal.Resources(ephemeral_storage=1).requests()[2] == str(2**30)


def test_resources_know_both_spellings() -> None:
    resources = shoal.Resources(ephemeral_storage_gb=2)
    assert resources.ephemeral_storage == resources.ephemeral_storage_gb == 2
    assert dataclasses.replace(resources, memory_gb=4).ephemeral_storage == 2
    with pytest.raises(TypeError, match="are the same"):
        shoal.Resources(ephemeral_storage=1, ephemeral_storage_gb=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"gpus": 1},
        {"gpu_memory": 2},
        {"flags_required": "avx512"},
        {"flags": ["intel"]},
        {"max_eviction_rate": 0},
    ],
)
def test_resources_of_later_versions_are_refused_by_name(fields: dict[str, Any]) -> None:
    name = next(iter(fields)).replace("flags_required", "flags").replace("flags", "flags_required")
    with pytest.raises(shoal.NotSupportedYet, match=f"Resources.{name}"):
        shoal.Resources(**fields)


@pytest.mark.parametrize("amount", [-1, "2", True, float("nan"), float("inf")])
def test_resources_must_be_amounts(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"Resources\.memory_gb"):
        shoal.Resources(memory_gb=amount)


def test_pods_are_reused_unless_said_otherwise_in_either_spelling() -> None:
    assert shoal.Kubernetes().reusable_pods
    assert not shoal.Kubernetes(reusable_pods=False).reusable_pods
    assert not shoal.Kubernetes(resuable_pods=False).reusable_pods
    with pytest.raises(TypeError, match="resuable_pods"):
        shoal.Kubernetes(reusable_pods=True, resuable_pods=True)


def test_a_host_can_be_compared_and_copied() -> None:
    host = shoal.Kubernetes(kubernetes_namespace="a")
    assert host == shoal.Kubernetes(kubernetes_namespace="a")
    assert dataclasses.replace(host, kubernetes_namespace="b").kubernetes_namespace == "b"
    assert hash(host) == hash(shoal.Kubernetes(kubernetes_namespace="a"))


def test_host_options_of_later_versions_are_refused_by_name() -> None:
    with pytest.raises(shoal.NotSupportedYet, match="pod_customization"):
        shoal.Kubernetes(pod_customization=lambda spec: spec)
    with pytest.raises(shoal.NotSupportedYet, match="GoogleBucketSpec"):
        shoal.GoogleBucketSpec("bucket")
    with pytest.raises(ValueError, match="storage_spec"):
        shoal.Kubernetes("bucket")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "base",
    [
        shoal.Host,
        shoal.StorageBucketSpec,
        shoal.Secret,
        shoal.ContainerInterpreterBase,
        shoal.LocalInterpreter,
        shoal.InterpreterSpecFile,
    ],
)
def test_abstract_bases_cannot_be_made(base: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_container_images() -> None:
    assert shoal.Deployment.container_image("python").image.image_name == "python:latest"  # type: ignore[union-attr]
    at_digest = shoal.Deployment.container_image_at_digest("python", "sha256:abc")
    assert at_digest.image is not None
    assert at_digest.image.image_name == "python@sha256:abc"
    with pytest.raises(ValueError, match="sha256"):
        shoal.Deployment.container_image_at_digest("python", "abc")
    with pytest.raises(ValueError, match="name of an image"):
        shoal.Deployment.container_image("")
    with pytest.raises(ValueError, match="must map str to str"):
        shoal.Deployment.container_image("python", environment_variables={"A": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "secret", [shoal.KubernetesSecret("x"), shoal.AwsSecret("x"), shoal.AzureSecret("x", "vault")]
)
def test_secrets_open_images(secret: shoal.Secret) -> None:
    image = shoal.Deployment.container_image("python", username_password_secret=secret).image
    assert image is not None
    assert image.username_password_secret == secret


def test_what_is_no_secret_is_refused() -> None:
    with pytest.raises(ValueError, match=r"username_password_secret must be"):
        shoal.Deployment.container_image("python", username_password_secret="pull")  # type: ignore[arg-type]


def test_mirror_local_is_awaited_by_asyncio_run_too() -> None:
    pending = shoal.Deployment.mirror_local(include_sys_path=False)
    assert isinstance(asyncio.run(pending), shoal.Deployment)


async def test_mirror_local_can_be_awaited_again() -> None:
    pending = shoal.Deployment.mirror_local(include_sys_path=False)
    assert await pending == await pending


def test_none_is_a_result() -> None:
    assert shoal.TaskResult(1, True, "SUCCEEDED").result_or_raise() is None


def test_a_failed_result_raises_with_the_remote_traceback() -> None:
    failed = shoal.TaskResult[int](
        1, False, "PYTHON_EXCEPTION", None, ("ValueError", "no", "Traceback: line 1")
    )
    with pytest.raises(
        shoal.TaskException, match=r"ValueError: no[\s\S]*Traceback: line 1"
    ) as caught:
        failed.result_or_raise()
    assert (caught.value.type, caught.value.message) == ("ValueError", "no")


def every_error() -> list[type[errors.ShoalException]]:
    found, todo = [], [errors.ShoalException]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += [k for k in kind.__subclasses__() if k.__module__ == "shoal.errors"]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("kind", every_error())
def test_every_error_stands_in_the_picture(kind: type) -> None:
    assert errors.__doc__ is not None
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__)


@pytest.mark.parametrize("reason", errors.JobFailedException.by_reason)
def test_every_reason_has_its_exception_and_survives_pickling(reason: str) -> None:
    error = errors.job_failed(reason, "why")
    assert type(error).__name__ == reason == error.reason
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), f"{reason}: why")


def test_an_unknown_reason_is_still_told() -> None:
    assert str(errors.job_failed("SomethingNew", "why")) == "SomethingNew: why"
