"""The sweep takes what belongs to nobody, and nothing of another cluster's."""

from __future__ import annotations

import secrets

from conftest import Space, until

import shoal
from shoal.storage.s3 import S3Storage


async def test_another_clusters_data_outlives_every_sweep(
    space: Space, bucket: S3Storage, cluster_id: str
) -> None:
    job = secrets.token_hex(12)
    ours = f"{cluster_id}/{space.name}/jobs/{job}/ledger/00000000"
    others = [
        f"another-{cluster_id}/{space.name}/jobs/{job}/ledger/00000000",
        f"{cluster_id}-another/{space.name}/jobs/{job}/ledger/00000000",
        f"{job}/unrelated",
    ]
    for key in [ours, *others]:
        bucket.put(key, b"x")
    try:
        await until("our orphan is swept", 150, lambda: not bucket.exists(ours))
        assert [key for key in others if not bucket.exists(key)] == []
    finally:
        bucket.delete(*others)


async def test_a_deleted_jobs_keys_go_and_a_living_ones_stay(
    space: Space, bucket: S3Storage, cluster_id: str
) -> None:
    handles = [
        await shoal.submit_function(lambda: 1, space.host(), deployment=shoal.Deployment())
        for _ in range(2)
    ]
    for handle in handles:
        assert await handle.result() == 1
    ids = [space.status(f"jobs.shoal.dev/{handle.name}")["id"] for handle in handles]
    prefixes = [f"{cluster_id}/{space.name}/jobs/{job}/" for job in ids]
    assert all(any(bucket.list(prefix)) for prefix in prefixes)
    space.kubectl("delete", f"jobs.shoal.dev/{handles[0].name}")
    await until("its keys are gone", 150, lambda: not any(bucket.list(prefixes[0])))
    assert any(bucket.list(prefixes[1]))
    assert await handles[1].result() == 1
