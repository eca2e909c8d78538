"""What a job's spec leaves open is settled once; what stands in its way is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shoal_operator.reasons import Reason
from shoal_operator.resolve import is_forbidden, resolve
from shoal_operator.settings import Settings

Make = Callable[..., Any]


def nothing(_: str) -> None:
    return None


def test_a_plain_job_takes_the_operators_defaults(job: Make, settings: Settings) -> None:
    found = resolve(job(), nothing, settings)
    assert found.total == 1
    assert found.template.image == "python:3.11-slim"
    assert found.storage is not None
    assert found.storage.bucket == "bucket"
    assert found.problem is None
    assert found.inline == {}
    assert found.pool is None


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({"deployment": {"python": "3.12"}}, "mirror/python:3.12"),
        ({"deployment": {"python": "3.13"}}, "python:3.13-slim"),
        ({"deployment": {"image": "own:1", "python": "3.12"}}, "own:1"),
        (
            {"function": {"payload": {"sha256": "0" * 64, "size": 1, "python": "3.12"}}},
            "mirror/python:3.12",
        ),
    ],
)
def test_the_image_is_the_named_one_or_that_of_the_python(
    job: Make, settings: Settings, spec: dict[str, Any], image: str
) -> None:
    made = job({"function": {"name": "f.f"}} | spec)
    assert resolve(made, nothing, settings).template.image == image


def test_equal_jobs_share_a_deployment_and_others_do_not(job: Make, settings: Settings) -> None:
    def name(spec: dict[str, Any]) -> str:
        return resolve(job({"function": {"name": "f.f"}} | spec), nothing, settings).deployment

    assert name({}) == name({"function": {"name": "g.g"}, "maxAttempts": 3})
    assert name({}) != name({"resources": {"cpu": "2"}})
    assert name({}) != name({"deployment": {"environmentVariables": [{"name": "A", "value": "1"}]}})
    assert name({}) != name({"deployment": {"serviceAccountName": "other"}})


@pytest.mark.parametrize(
    ("items", "asked", "expected", "capped"),
    [(10, None, 6, False), (10, 3, 3, False), (10, 50, 10, False), (500, 300, 64, True)],
)
def test_parallelism(
    job: Make, settings: Settings, items: int, asked: int | None, expected: int, capped: bool
) -> None:
    spec: dict[str, Any] = {"function": {"name": "f.f"}, "items": {"packed": {"count": items}}}
    if asked:
        spec["parallelism"] = asked
    found = resolve(job(spec, kind="MapJob"), nothing, settings)
    assert (found.total, found.parallelism, found.capped) == (items, expected, capped)


def test_a_deployment_that_is_not_there_is_waited_for(job: Make, settings: Settings) -> None:
    spec = {"function": {"name": "f.f"}, "deployment": {"ref": "later"}}
    found = resolve(job(spec), nothing, settings)
    assert found.problem is not None
    assert found.problem.reason is Reason.DEPLOYMENT_NOT_FOUND
    assert found.problem.patience == settings.deployment_seconds
    limited = resolve(job(spec | {"deploymentDeadlineSeconds": 7}), nothing, settings)
    assert limited.problem is not None
    assert limited.problem.patience == 7


def test_a_named_deployment_gives_its_pool(job: Make, settings: Settings) -> None:
    deployment = job({"image": "own:1", "minWorkers": 2, "maxWorkers": 4}, kind="Deployment")
    spec = {"function": {"name": "f.f"}, "deployment": {"ref": "d"}}
    found = resolve(job(spec), lambda _: deployment, settings)
    assert found.pool is not None
    assert (found.pool.min_workers, found.pool.max_workers) == (2, 4)
    sized = resolve(job(spec | {"resources": {"memory": "4Gi"}}), lambda _: deployment, settings)
    assert sized.pool is not None
    assert sized.pool.hash != found.pool.hash
    assert sized.pool.min_workers == 0


def test_further_attempts_have_larger_pools_only_where_that_is_asked_for(
    job: Make, settings: Settings
) -> None:
    deployment = job({"resources": {"memory": "1Gi"}, "minWorkers": 1}, kind="Deployment")
    spec = {"function": {"name": "f.f"}, "deployment": {"ref": "d"}, "maxAttempts": 3}
    assert len(resolve(job(spec), lambda _: deployment, settings).pools) == 1
    found = resolve(job(spec | {"retryWithMoreMemory": True}), lambda _: deployment, settings)
    assert [pool.template.memory for pool in found.pools] == ["1Gi", "2Gi", "3Gi"]
    assert {pool.owner_uid for pool in found.pools} == {deployment.uid}
    assert [pool.min_workers for pool in found.pools] == [1, 0, 0]
    assert found.in_use([3]) == (found.pools[0], found.pools[2])


def test_the_start_deadline_is_the_jobs_or_the_charts(job: Make, settings: Settings) -> None:
    spec = {"function": {"name": "f.f"}}
    assert resolve(job(spec), nothing, settings).start_deadline == 3600
    limited = resolve(job(spec | {"startDeadlineSeconds": 5}), nothing, settings)
    assert limited.start_deadline == 5


def test_an_isolated_job_has_a_pool_of_its_own(job: Make, settings: Settings) -> None:
    spec = {"function": {"name": "f.f"}, "isolation": "job"}
    first = resolve(job(spec, uid="a"), nothing, settings)
    second = resolve(job(spec, uid="b"), nothing, settings)
    assert first.pool is not None
    assert second.pool is not None
    assert first.pool.owner_uid == "a"
    assert first.pool.hash != second.pool.hash


def test_without_a_bucket_only_commands_run(job: Make, settings: Settings) -> None:
    bare = Settings(namespace="n", instance="i", cluster_id="c", service_name="s")
    function = resolve(job(), nothing, bare)
    assert function.problem is not None
    assert function.problem.reason is Reason.NO_BUCKET
    command = resolve(job({"command": ["true"]}), nothing, bare)
    assert command.direct
    assert command.problem is None
    assert not resolve(job({"command": ["true"]}), nothing, settings).direct


def test_a_storages_folder_is_the_namespaces_own(job: Make, settings: Settings) -> None:
    spec = {"bucket": "b", "endpoint": "http://s:9000", "prefix": "p/q", "secretName": "k"}
    found = resolve(job({"function": {"name": "f.f"}, "storage": spec}), nothing, settings)
    assert found.storage is not None
    assert found.storage.folder("c", "default") == "p/q/c/default/"
    assert (found.storage.secret, found.storage.namespace) == ("k", "default")


@pytest.mark.parametrize(
    ("endpoint", "forbidden"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://localhost", True),
        ("http://a.localhost:1", True),
        ("http://169.254.169.254", True),
        ("http://[::1]:9000", True),
        ("http://[fe80::1]", True),
        ("http://[::ffff:127.0.0.1]", True),
        ("http://0.0.0.0", True),
        ("http://10.96.0.10:9000", False),
        ("https://s3.amazonaws.com", False),
    ],
)
def test_the_operators_own_machine_is_no_endpoint(endpoint: str, forbidden: bool) -> None:
    assert is_forbidden(endpoint) is forbidden
