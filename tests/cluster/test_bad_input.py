"""What can't run says why: one condition, one reason, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
from namespaces import Place, condition

FUNCTION: dict[str, Any] = {"function": {"name": "math.gcd", "args": [12, 18]}}


async def reason(place: Place, name: str, spec: dict[str, Any], seconds: float = 60) -> str:
    status = await place.run("Job", name, FUNCTION | spec, seconds=seconds)
    assert status["phase"] == "Failed"
    return str(condition(status, "Failed")["reason"])


async def nothing_is_left(place: Place) -> None:
    await place.until_pods(lambda pods: not pods, seconds=40)


async def test_an_image_that_is_not_there(place: Place) -> None:
    spec = FUNCTION | {"deployment": {"image": "localhost/nothing-of-the-kind:1"}}
    await place.apply("Job", "image", spec)
    early = await place.until(
        "Job", "image", lambda s: condition(s, "WorkersReady").get("reason") == "ImagePullFailed"
    )
    assert "localhost/nothing-of-the-kind:1" in condition(early, "WorkersReady")["message"]
    status = await place.end("Job", "image", seconds=100)
    assert condition(status, "Failed")["reason"] == "ImagePullFailed"
    await nothing_is_left(place)


async def test_an_image_name_that_is_none(place: Place) -> None:
    spec = {"deployment": {"image": "Not/An/Image:::"}}
    try:
        assert await reason(place, "name", spec) == "ImagePullFailed"
    except Exception as error:
        assert "image" in str(error)  # the schema may refuse it before


async def test_workers_that_can_not_start(place: Place) -> None:
    variable = {"name": "PYTHONHOME", "value": "/nonexistent"}
    spec = {"deployment": {"environmentVariables": [variable]}}
    assert await reason(place, "start", spec) == "WorkerNoContact"
    await nothing_is_left(place)


async def test_a_service_account_that_does_not_exist(place: Place) -> None:
    spec = {"deployment": {"serviceAccountName": "nobody"}}
    assert await reason(place, "account", spec) == "PodRejected"
    await nothing_is_left(place)


async def test_no_node_is_large_enough(place: Place) -> None:
    spec = FUNCTION | {"resources": {"cpu": "1000"}, "activeDeadlineSeconds": 8}
    await place.apply("Job", "huge", spec)
    early = await place.until(
        "Job", "huge", lambda s: condition(s, "WorkersReady").get("reason") == "Unschedulable"
    )
    assert early["phase"] == "Pending"
    status = await place.end("Job", "huge")
    assert condition(status, "Failed")["reason"] == "DeadlineExceeded"
    await nothing_is_left(place)


async def test_a_deployment_that_never_comes(place: Place) -> None:
    spec = {"deployment": {"ref": "never"}, "deploymentDeadlineSeconds": 2}
    assert await reason(place, "never", spec) == "DeploymentNotFound"


async def test_a_deployment_that_comes_later(place: Place) -> None:
    spec = FUNCTION | {"deployment": {"ref": "later"}}
    await place.apply("Job", "patient", spec)
    await place.until(
        "Job", "patient", lambda s: condition(s, "Running").get("reason") == "DeploymentNotFound"
    )
    await place.apply("Deployment", "later", {"python": "3.11"})
    assert (await place.end("Job", "patient"))["result"] == 6


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ({"bucket": "not-there"}, "BucketNotFound"),
        ({"endpoint": "http://127.0.0.1:9000"}, "AccessDenied"),
        ({"endpoint": "http://169.254.169.254"}, "AccessDenied"),
        ({"bucket": "no-secret-named", "secretName": None}, "SecretNotFound"),
    ],
)
async def test_storage_that_can_not_be_used(
    place: Place, bucket_key: str, storage: dict[str, Any], expected: str
) -> None:
    known = {
        "bucket": "other",
        "endpoint": "http://shoal-minio.shoal-system.svc:9000",
        "secretName": bucket_key,
    }
    spec = {key: value for key, value in (known | storage).items() if value is not None}
    assert await reason(place, "storage", {"storage": spec}) == expected


async def test_a_function_that_the_image_lacks(place: Place) -> None:
    status = await place.run("Job", "lacks", {"function": {"name": "no.such.module", "args": []}})
    assert "name an image" in condition(status, "Failed")["message"]
