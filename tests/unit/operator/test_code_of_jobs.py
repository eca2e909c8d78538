"""The user's code as the operator sees it: which workers have it, who may read it, who keeps it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from parts import Api, Make, operator, resource_body

from shoal.dispatch import CodePartRef
from shoal.errors import AccessDenied
from shoal.storage import FileStorage
from shoal_operator.bucket import Bucket
from shoal_operator.jobbucket import JobBucket
from shoal_operator.jobspec import dispatch_spec
from shoal_operator.pools import template
from shoal_operator.resolve import resolve
from shoal_operator.settings import Settings
from shoal_operator.status import deployment_status
from shoal_operator.sweep import Sweeper

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def code(*digests: str, **more: Any) -> dict[str, Any]:
    return {"parts": [{"sha256": digest, "size": 5} for digest in digests], **more}


def test_the_dispatcher_is_told_every_part_and_where_it_lies(job: Make, settings: Settings) -> None:
    told = code(A, B, sysPaths=["0/here", "1/lib"], workingDirectory="0/here")
    one = job({"command": ["true"], "deployment": {"code": told}})
    spec = dispatch_spec(one, resolve(one, lambda _: None, settings), settings.cluster_id)
    assert spec.code is not None
    assert spec.code.parts == (
        CodePartRef(key=f"cluster/default/code/{A}", sha256=A, size=5),
        CodePartRef(key=f"cluster/default/code/{B}", sha256=B, size=5),
    )
    assert (spec.code.sys_paths, spec.code.working_directory) == (("0/here", "1/lib"), "0/here")


def test_workers_are_alike_if_all_parts_are(settings: Settings) -> None:
    known = template({"code": code(A, B)}, settings)
    assert template({"code": code(A, B)}, settings).hash == known.hash
    others = [
        code(A),
        code(A, C),
        code(B, A),
        code(A, B, C),
        code(A, B, sysPaths=["lib"]),
        code(A, B, workingDirectory="lib"),
    ]
    hashes = {template({"code": other}, settings).hash for other in others}
    assert len(hashes) == len(others)
    assert known.hash not in hashes


async def test_a_job_is_signed_all_of_its_parts_and_no_others(
    job: Make, settings: Settings
) -> None:
    context, reconciler, _ = operator(Api(), settings)
    body = resource_body("Deployment", "pool", "d", spec={"code": code(A, B)})
    reconciler.resource_seen("Deployment", body, created=False)
    stores = []

    async def attach(spec: Any, store: JobBucket, pool: str, **how: Any) -> None:
        stores.append(store)

    async def opened(storage: Any) -> Bucket:
        return cast(Bucket, SimpleNamespace(storage=FileStorage("/bucket")))

    context.dispatcher.attach = attach  # type: ignore[method-assign, assignment]
    context.buckets.open = opened  # type: ignore[method-assign]
    spec = {"function": {"name": "a.b"}, "deployment": {"ref": "pool"}}
    reconciler.resource_seen("Job", resource_body("Job", "x", "j", spec=spec), created=True)
    await reconciler.jobs.reconcile("j")
    (store,) = stores
    for digest in (A, B):
        assert store.url_to_get(f"cluster/default/code/{digest}").endswith(digest)
    for key in (C, f"{A}/x", A[:-1], ""):
        with pytest.raises(AccessDenied):
            store.url_to_get(f"cluster/default/code/{key}")


async def test_the_sweep_takes_old_parts_that_no_resource_names(
    settings: Settings, tmp_path: Path
) -> None:
    context, reconciler, _ = operator(Api(), settings)
    inline = {"command": ["true"], "deployment": {"code": code(B)}}
    reconciler.resource_seen("Job", resource_body("Job", "x", "j", spec=inline), created=False)
    body = resource_body("Deployment", "pool", "d", spec={"code": code(A, C)})
    reconciler.resource_seen("Deployment", body, created=False)
    plain = resource_body("Job", "y", "k", spec={"command": ["true"]})
    reconciler.resource_seen("Job", plain, created=False)
    storage, folder = FileStorage(tmp_path, make=True), "cluster/default/code/"
    then = time.time() - 2 * settings.grace_seconds
    for digest in (A, B, C, D):
        storage.put(folder + digest, b"x")
        os.utime(tmp_path / folder / digest, (then, then))
    storage.put(folder + "e" * 64, b"x")
    sweeper = Sweeper(context, reconciler, lambda missed: None)
    await sweeper._clear_code(cast(Bucket, SimpleNamespace(storage=storage)), folder, "default")
    left = [info.key.rpartition("/")[2] for info in storage.list(folder)]
    assert left == [A, B, C, "e" * 64]


def test_a_deployments_status_says_how_large_its_code_is(job: Make) -> None:
    def status(spec: dict[str, Any]) -> dict[str, Any]:
        return deployment_status(
            job(spec, kind="Deployment"),
            pool_hash="h",
            instance="shoal",
            replicas=0,
            ready=0,
            idle=0,
            wanted=0,
            trouble=None,
            environment=None,
            now=0.0,
        )

    assert status({"code": code(A, B, C)})["codeSize"] == 15
    assert "codeSize" not in status({"image": "python"})
