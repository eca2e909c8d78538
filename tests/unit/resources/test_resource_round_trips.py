"""A manifest read by a model and written again is the same manifest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from shoal.resources import (
    KINDS,
    Deployment,
    Function,
    Job,
    JobSpec,
    MapJob,
    Metadata,
    Resource,
    Resources,
    find_condition,
    full_name,
    resource_from_dict,
)

SHA = "ab" * 32
ID = "k3x9" * 6

JOB = {
    "apiVersion": "shoal.dev/v1alpha1",
    "kind": "Job",
    "metadata": {"name": "hello", "namespace": "team", "labels": {"a": "b"}},
    "spec": {
        "function": {"name": "math.gcd", "args": [12, None, {"x": None}], "kwargs": {"k": None}},
        "deployment": {
            "image": "python:3.12-slim",
            "environmentVariables": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": ""},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {
                    "name": "D",
                    "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}},
                },
            ],
            "envFrom": [
                {"secretRef": {"name": "s"}},
                {"prefix": "C_", "configMapRef": {"name": "c", "optional": True}},
            ],
            "imagePullSecrets": [{"name": "pull"}],
        },
        "resources": {"cpu": "500m", "memory": "1Gi"},
        "maxAttempts": 3,
        "retryWithMoreMemory": True,
        "taskTimeoutSeconds": 60,
        "backoffSeconds": 0,
        "isolation": "job",
        "startDeadlineSeconds": 600,
        "suspend": True,
    },
}
PICKLED = {
    "apiVersion": "shoal.dev/v1alpha1",
    "kind": "MapJob",
    "metadata": {"generateName": "map-"},
    "spec": {
        "id": ID,
        "deployment": {"ref": "team-code"},
        "storage": {"bucket": "data", "endpoint": "https://s3.example.org", "prefix": "a/b"},
        "function": {"payload": {"sha256": SHA, "size": 100, "python": "3.12"}},
        "items": {"packed": {"count": 10000}},
        "parallelism": 8,
        "speculation": True,
    },
}
DEPLOYMENT = {
    "apiVersion": "shoal.dev/v1alpha1",
    "kind": "Deployment",
    "metadata": {"name": "team-code"},
    "spec": {
        "python": "3.12",
        "code": {"sha256": SHA, "size": 5, "sysPaths": [".", "lib"], "workingDirectory": "app"},
        "minWorkers": 1,
        "maxWorkers": 4,
    },
}


@pytest.mark.parametrize("manifest", [JOB, PICKLED, DEPLOYMENT], ids=lambda m: m["kind"])
def test_dict_and_yaml_come_back_as_they_were(manifest: dict[str, Any]) -> None:
    resource = resource_from_dict(manifest)
    assert resource.to_dict() == manifest
    assert yaml.safe_load(resource.to_yaml()) == manifest
    assert type(resource).from_yaml(resource.to_yaml()) == resource


def test_only_what_was_set_is_written() -> None:
    job = Job(
        metadata=Metadata(name="x"),
        spec=JobSpec(function=Function(name="os.getpid"), resources=None),
    )
    assert job.to_dict()["spec"] == {"function": {"name": "os.getpid"}}
    assert job.spec.max_attempts == 1
    assert job.full_name == "jobs.shoal.dev/x"


def test_yaml_is_in_the_order_that_people_write() -> None:
    assert list(yaml.safe_load(resource_from_dict(JOB).to_yaml())) == list(JOB)


def test_python_numbers_become_quantities() -> None:
    assert Resources(cpu=0.5, memory=1024).to_dict() == {"cpu": "0.5", "memory": "1024"}
    assert Resources(cpu=2.0).cpu == "2"


def test_a_status_of_a_newer_operator_is_read() -> None:
    live = JOB | {
        "metadata": {
            "name": "hello",
            "uid": "u",
            "resourceVersion": "7",
            "managedFields": [{"manager": "kubectl"}],
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "status": {
            "phase": "Complete",
            "futureField": {"a": 1},
            "result": [1, None],
            "ledger": {"length": 2, "digest": SHA, "futureField": 1},
            "conditions": [
                {
                    "type": "Finished",
                    "status": "True",
                    "reason": "Complete",
                    "message": "",
                    "lastTransitionTime": "2026-01-02T03:04:06Z",
                }
            ],
        },
    }
    job = Job.from_dict(live)
    assert job.metadata.creation_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert job.status is not None and job.status.ledger is not None
    assert (job.status.result, job.status.ledger.length) == ([1, None], 2)
    finished = find_condition(job.status.conditions, "Finished")
    assert finished is not None and finished.status == "True"
    assert find_condition(job.status.conditions, "Failed") is None


def test_models_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        resource_from_dict(JOB).spec.id = ID  # type: ignore[attr-defined]


def test_the_table_of_kinds_names_every_model() -> None:
    models: list[type[Resource]] = [Job, MapJob, Deployment]
    assert {m.names.kind: m.names for m in models} == KINDS
    assert full_name("MapJob", "x") == "mapjobs.shoal.dev/x"
    assert [kind.short_names for kind in KINDS.values()] == [("sjob",), ("smap",), ("sdep",)]
