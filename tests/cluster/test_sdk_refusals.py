"""What a client can know before anything runs, it says; and nothing is left behind."""

from __future__ import annotations

import time

import pytest
from namespaces import Place

import shoal
from shoal import discovery, errors
from shoal.kube import JOBS, Client

HERE = shoal.Deployment()


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    discovery.forget()


async def call(host: shoal.Kubernetes) -> object:
    return await shoal.run_function(len, host, None, HERE, ["abc"])


async def keys(place: Place) -> list[str]:
    host = shoal.Kubernetes(kubernetes_namespace=place.namespace)
    found = await discovery.find(place.api, host)
    storage = await found.bucket(place.api, "this test")
    return [info.key for info in storage.list(f"{found.prefix}/")]


async def test_a_namespace_that_does_not_exist() -> None:
    with pytest.raises(errors.NamespaceNotFound, match="no-such-namespace"):
        await call(shoal.Kubernetes(kubernetes_namespace="no-such-namespace"))


async def test_a_namespace_that_no_operator_watches(api: Client) -> None:
    with pytest.raises(errors.NoOperator, match="kubectl get pods"):
        await call(shoal.Kubernetes(kubernetes_namespace="kube-node-lease"))


async def test_a_context_that_does_not_exist() -> None:
    with pytest.raises(errors.ConfigurationError, match="no-such-context"):
        await call(shoal.Kubernetes(kube_config_context="no-such-context"))


async def test_a_secret_that_does_not_exist(place: Place) -> None:
    with pytest.raises(errors.SecretNotFound, match="secrets/shoal-minio in namespace test-"):
        await call(shoal.Kubernetes(kubernetes_namespace=place.namespace))


async def test_a_bucket_that_does_not_exist(place: Place, bucket_key: str) -> None:
    known = await discovery.find(place.api, shoal.Kubernetes(kubernetes_namespace=place.namespace))
    storage = await known.bucket(place.api, "this test")
    spec = shoal.GenericStorageBucketSpec(
        "missing", storage.endpoint, username_password_secret=bucket_key
    )
    with pytest.raises(errors.BucketNotFound, match="no bucket missing"):
        await call(shoal.Kubernetes(spec, kubernetes_namespace=place.namespace))
    assert (await place.api.list(JOBS, place.namespace))["items"] == []


async def test_an_endpoint_where_nobody_answers(place: Place, bucket_key: str) -> None:
    spec = shoal.GenericStorageBucketSpec(
        "shoal", "http://127.0.0.1:9", username_password_secret=bucket_key
    )
    start = time.monotonic()
    with pytest.raises(errors.StorageUnavailable, match=r"127\.0\.0\.1:9"):
        await call(shoal.Kubernetes(spec, kubernetes_namespace=place.namespace))
    assert time.monotonic() - start < 15
    assert (await place.api.list(JOBS, place.namespace))["items"] == []


async def test_what_the_api_server_refuses_leaves_no_key(place: Place, bucket_key: str) -> None:
    host = shoal.Kubernetes(kubernetes_namespace=place.namespace)
    assert await shoal.run_function(len, host, None, HERE, ["a"], name="taken") == 1
    before = await keys(place)
    with pytest.raises(ValueError, match=r"jobs\.shoal\.dev/taken exists already"):
        await shoal.run_function(len, host, None, HERE, ["a"], name="taken")
    assert [key for key in await keys(place) if "/inputs/" in key and key not in before] == []


async def test_a_bad_name_is_told_before_anything_is_uploaded(
    place: Place, bucket_key: str
) -> None:
    host = shoal.Kubernetes(kubernetes_namespace=place.namespace)
    with pytest.raises(ValueError, match=r"metadata\.name"):
        await shoal.run_function(len, host, None, HERE, ["a"], name="Not A Name")
    assert await keys(place) == []


async def test_an_unpicklable_item_is_told_before_anything_is_uploaded(
    place: Place, bucket_key: str
) -> None:
    host = shoal.Kubernetes(kubernetes_namespace=place.namespace)
    with pytest.raises(shoal.Unpicklable, match="item 1"):
        await shoal.run_map(len, ["a", (x for x in "a")], host, None, HERE)
    assert await keys(place) == []
