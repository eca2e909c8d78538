"""Which workers are alike, and which are larger."""

from __future__ import annotations

from shoal_operator.pools import Pool, Template, sized, template
from shoal_operator.settings import Settings

POOL = Pool(
    namespace="default",
    template=Template(image="python", cpu="1", memory="512Mi"),
    owner_kind="Deployment",
    owner_name="d",
    owner_uid="owner",
    min_workers=2,
    max_workers=8,
)


def test_larger_workers_differ_in_memory_alone() -> None:
    larger = sized(POOL, 3)
    assert (larger.template.memory, larger.template.cpu) == ("1536Mi", "1")
    assert (larger.owner_uid, larger.max_workers) == (POOL.owner_uid, POOL.max_workers)
    assert larger.key not in (POOL.key, sized(POOL, 2).key)
    assert sized(POOL, 1) is POOL


def test_nobody_keeps_larger_workers_ready_for_long() -> None:
    assert sized(POOL, 2).min_workers == 0
    assert sized(POOL, 2).idle_seconds == 30


def test_larger_workers_are_those_of_a_job_that_asks_for_as_much(settings: Settings) -> None:
    asked = template({}, settings, resources={"memory": "1Gi"})
    usual = template({}, settings)
    pools = [
        Pool(
            namespace="default",
            template=made,
            owner_kind="Deployment",
            owner_name="d",
            owner_uid="owner",
        )
        for made in (usual, asked)
    ]
    assert sized(pools[0], 2).key == pools[1].key
