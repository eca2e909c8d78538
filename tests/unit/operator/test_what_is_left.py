"""When a resource is gone, what was kept for it goes: its keys, and the memory of its pools."""

from __future__ import annotations

from dataclasses import replace

from parts import Api, Make, operator, resource_body

from shoal_operator.pools import Pool, Template
from shoal_operator.settings import Settings
from shoal_operator.sweep import storage_of


def test_keys_are_where_the_status_says(settings: Settings, job: Make) -> None:
    """The Deployment that named the bucket, or the chart's bucket, may be another one by now."""
    context, _, _ = operator(Api(), settings)
    status = {"storage": {"bucket": "theirs", "endpoint": "http://theirs", "prefix": "a"}}
    spec = {"command": ["true"], "deployment": {"ref": "pool"}}
    found = storage_of(job(spec, status=status), context)
    assert found is not None
    assert found.status() == status["storage"]
    assert (found.secret, found.namespace) == ("", "default")


def test_the_key_is_that_of_the_deployment_while_it_is_there(settings: Settings, job: Make) -> None:
    context, reconciler, _ = operator(Api(), settings)
    named = {"bucket": "theirs", "endpoint": "http://theirs", "secretName": "key"}
    body = resource_body("Deployment", "pool", "d", spec={"storage": named})
    reconciler.resource_seen("Deployment", body, created=False)
    status = {"storage": {"bucket": "theirs", "endpoint": "http://theirs"}}
    spec = {"command": ["true"], "deployment": {"ref": "pool"}}
    found = storage_of(job(spec, status=status), context)
    assert found is not None
    assert (found.bucket, found.secret) == ("theirs", "key")


def test_the_charts_bucket_is_used_with_the_operators_key(settings: Settings, job: Make) -> None:
    context, _, _ = operator(Api(), settings)
    plain = storage_of(job({"command": ["true"]}), context)
    assert plain is not None
    found = storage_of(job({"command": ["true"]}, status={"storage": plain.status()}), context)
    assert found == plain
    assert found.namespace == settings.namespace


def test_a_job_without_a_bucket_has_no_keys(settings: Settings, job: Make) -> None:
    context, _, _ = operator(Api(), replace(settings, default_bucket=""))
    assert storage_of(job({"command": ["true"]}), context) is None


async def test_pools_are_forgotten_with_their_owner(settings: Settings) -> None:
    _, reconciler, dispatcher = operator(Api(), settings)
    pool = Pool(
        namespace="default",
        template=Template(image="i"),
        owner_kind="Deployment",
        owner_name="pool",
        owner_uid="first",
    )
    again = replace(pool, owner_uid="second")
    await reconciler.pools.keep(pool)
    await reconciler.pools.keep(again)
    await reconciler.deployments.reconcile("first")
    assert set(reconciler.pools._memory) == {again.key}
    await reconciler.deployments.reconcile("second")
    assert reconciler.pools._memory == {}
    assert reconciler.pools._owned == {}
    assert dispatcher._pools == {}
