"""Which workers are alike, and which are larger."""

from __future__ import annotations

from dataclasses import replace

from shoal_operator.pools import (
    Pool,
    Template,
    build_name,
    digest,
    image_for,
    sized,
    template,
    version_of,
)
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


def test_only_workers_with_an_environment_are_bound_to_an_architecture(settings: Settings) -> None:
    spec = {"environment": {"requirements": ["six"]}}
    there, elsewhere = replace(settings, machine="aarch64"), replace(settings, machine="riscv64")
    assert template(spec, there).machine == "aarch64"
    assert template({}, there) == template({}, elsewhere)
    assert build_name(spec, there) != build_name(spec, elsewhere)


def test_a_field_that_is_not_used_renames_no_pool() -> None:
    """The name stands in Pods of the operator before this one, which go on."""
    used = {"image": "python", "interpreter": "python", "cpu": "1", "memory": "512Mi"}
    assert Template(**used).hash == digest(used)


def test_an_exact_version_has_an_image_of_its_own_or_that_of_its_minor_version(
    settings: Settings,
) -> None:
    images = {
        "3.12": "mirror:5000/library/python:3.12-slim",
        "3.12.4": "mirror:5000/library/ours:1",
        "3.13": "mirror:5000/library/python@sha256:123",
    }
    named = replace(settings, python_images=images)
    assert image_for("3.12.4", named) == "mirror:5000/library/ours:1"
    assert image_for("3.12.5", named) == "mirror:5000/library/python:3.12.5-slim"
    assert image_for("3.13.5", named) == "python:3.13.5-slim"
    assert image_for("3.14.1", named) == "python:3.14.1-slim"
    for version in ("3.12", "3.12.4", "3.12.5", "3.13", "3.13.5", "3.14.1"):
        assert version_of(image_for(version, named), named) == version
    for image in ("someone/python:3.12-slim", "python", "ours:1", "python:latest"):
        assert version_of(image, named) == ""
