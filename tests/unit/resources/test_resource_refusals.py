"""What the API server would refuse, the models refuse: one line, the field, the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.errors import ShoalException
from shoal.resources import (
    Deployment,
    DeploymentSpec,
    Function,
    InvalidResource,
    Job,
    JobSpec,
    MapJob,
    Payload,
    resource_from_dict,
)

SHA = "ab" * 32
ID = "k3x9" * 6
NAMED = {"name": "math.gcd"}
PICKLED = {"payload": {"sha256": SHA, "size": 1, "python": "3.12"}}
INLINE = {"inline": [1, 2]}
CODE = {"parts": [{"sha256": SHA, "size": 1}]}
SECRET_KEY = {"secretKeyRef": {"name": "s", "key": "k"}}
PACKED = {"packed": {"count": 2}}


def job(**spec: Any) -> dict[str, Any]:
    return {"kind": "Job", "metadata": {"name": "x"}, "spec": spec}


def mapjob(**spec: Any) -> dict[str, Any]:
    return {"kind": "MapJob", "metadata": {"name": "x"}, "spec": spec}


def deployment(**spec: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (job(), "spec: set exactly one of function and command"),
    (job(function=NAMED, command=["ls"]), "spec: set exactly one of function and command"),
    (job(command=[]), "spec.command: must have at least 1 elements (it is [])"),
    (job(function={}), "spec.function: set exactly one of name and payload"),
    (job(function=NAMED | PICKLED, id=ID), "spec.function: set exactly one of name and payload"),
    (
        job(function=PICKLED | {"args": [1]}, id=ID),
        "spec.function: args and kwargs go with name; a payload has its own arguments: remove them",
    ),
    (
        job(function={"name": "gcd"}),
        'spec.function.name: must be an importable name such as "package.module.function" '
        "(it is 'gcd')",
    ),
    (
        job(function=PICKLED),
        "spec: function.payload or contextVariables needs spec.id, under which the inputs were "
        "uploaded: set id",
    ),
    (
        job(function=NAMED, contextVariables=PICKLED["payload"], id=ID),
        "spec: contextVariables go with command: remove them",
    ),
    (
        job(function={"payload": {"sha256": "AB", "size": -1, "python": "2.7"}}, id=ID),
        "spec.function.payload.sha256: must be a SHA-256 digest: 64 lower-case hexadecimal digits "
        "(it is 'AB'); spec.function.payload.size: must be at least 0 (it is -1); "
        "spec.function.payload.python: must be a minor version of Python, 3.9 or newer, such as "
        "\"3.12\" (it is '2.7')",
    ),
    (
        deployment(environment={}),
        "spec.environment: names nothing to install: set requirements, conda, software or git",
    ),
    (
        deployment(environment={"conda": {"channels": ["forge"]}}),
        "spec.environment.conda: set exactly one of packages and explicit",
    ),
    (
        deployment(environment={"conda": {"packages": ["python"]}}),
        "spec.environment.conda: packages come from channels: set both, or neither beside explicit",
    ),
    (
        deployment(environment={"conda": {"channels": ["/mnt"], "packages": ["python"]}}),
        "spec.environment.conda.channels[0]: must be a channel's URL, or a name ",
    ),
    (
        deployment(environment={"conda": {"explicit": ["zlib=1.3"]}}),
        "spec.environment.conda.explicit[0]: must be the URL of a package, such as ",
    ),
    (
        job(function=NAMED, sidecars=[]),
        "spec.sidecars: is not a field of this kind: remove it, or check its spelling",
    ),
    (
        job(function=NAMED, deployment={"ref": "a", "image": "b"}),
        "spec.deployment: set either ref, which names a deployments.shoal.dev, or the fields of "
        "one",
    ),
    (
        job(function=NAMED, deployment={"code": CODE | {"sysPaths": ["../x"]}}),
        "spec.deployment.code.sysPaths[0]: must be a path relative to the code's root, without .. "
        "(it is '../x')",
    ),
    (
        job(function=NAMED, deployment={"environmentVariables": [{"name": "A"}]}),
        "spec.deployment.environmentVariables[0]: set exactly one of value and valueFrom",
    ),
    (
        job(
            function=NAMED,
            deployment={
                "environmentVariables": [{"name": "A", "value": "1", "valueFrom": SECRET_KEY}]
            },
        ),
        "spec.deployment.environmentVariables[0]: set exactly one of value and valueFrom",
    ),
    (
        deployment(environmentVariables=[{"name": "A", "valueFrom": {}}]),
        "spec.environmentVariables[0].valueFrom: set exactly one of secretKeyRef and "
        "configMapKeyRef",
    ),
    (
        deployment(envFrom=[{"prefix": "A_"}]),
        "spec.envFrom[0]: set exactly one of secretRef and configMapRef",
    ),
    (
        job(function=NAMED, deployment={"ref": "a", "envFrom": [{"secretRef": {"name": "s"}}]}),
        "spec.deployment: set either ref, which names a deployments.shoal.dev, or the fields of "
        "one",
    ),
    (
        job(function=NAMED, deployment={"code": {"sha256": SHA, "size": 1}}),
        "spec.deployment.code.parts: is required",
    ),
    (job(function=NAMED, isolation="vm"), "spec.isolation: must be one of 'shared' or 'job'"),
    (
        job(function=NAMED, resources={"memory": "lots"}),
        'spec.resources.memory: must be an amount such as 2, "500m" or "1.5Gi" (it is \'lots\')',
    ),
    (
        job(function=NAMED | {"args": [float("nan")]}),
        "spec.function.args[0]: holds NaN or infinity, which JSON has no form for (it is nan)",
    ),
    (
        job(function=NAMED | {"args": [[2**64]]}),
        "spec.function.args[0]: holds a whole number beyond 64 bits, which Kubernetes would round: "
        "pass text",
    ),
    (
        job(function=NAMED | {"args": [{1, 2}]}),
        "spec.function.args[0]: must be JSON (text, numbers, true, false, null, lists, objects)",
    ),
    (job(function=NAMED, id="short"), "spec.id: must be 20 to 40 lower-case letters and digits"),
    (
        mapjob(function=NAMED, items=INLINE | PACKED),
        "spec.items: set exactly one of inline and packed",
    ),
    (mapjob(function=NAMED, items={}), "spec.items: set exactly one of inline and packed"),
    (mapjob(function=NAMED), "spec.items: is required: set it"),
    (
        mapjob(function=NAMED, items=PACKED),
        "spec: items.packed goes with function.payload, and items.inline with function.name",
    ),
    (
        mapjob(function=PICKLED, items=INLINE, id=ID),
        "spec: items.packed goes with function.payload, and items.inline with function.name",
    ),
    (
        mapjob(function=PICKLED, items=PACKED),
        "spec: function.payload needs spec.id, under which the inputs were uploaded: set id",
    ),
    (
        mapjob(function=NAMED, items={"inline": [0] * 1001}),
        "spec.items.inline: must have at most 1000 elements",
    ),
    (mapjob(function=NAMED, items=INLINE, parallelism=0), "spec.parallelism: must be at least 1"),
    (
        job(function=NAMED, taskTimeoutSeconds=0, backoffSeconds=3601, startDeadlineSeconds=0),
        "spec.taskTimeoutSeconds: must be at least 1 (it is 0); spec.backoffSeconds: must be at "
        "most 3600 (it is 3601); spec.startDeadlineSeconds: must be at least 1 (it is 0)",
    ),
    (
        job(function=NAMED, speculation=True),
        "spec.speculation: is not a field of this kind: remove it, or check its spelling",
    ),
    (
        deployment(minWorkers=3, maxWorkers=2),
        "spec.minWorkers: minWorkers must not be above maxWorkers",
    ),
    (
        {"kind": "Deployment", "metadata": {"name": "My_Code"}},
        "metadata.name: must be lower-case letters, digits, '-' and '.', and begin and end with a "
        "letter or digit (it is 'My_Code')",
    ),
]


@pytest.mark.parametrize(("manifest", "line"), REFUSED, ids=[line[:60] for _, line in REFUSED])
def test_a_wrong_manifest_is_refused_in_one_line(manifest: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        resource_from_dict(manifest)
    text = str(refused.value)
    assert line in text
    assert text.startswith({"J": "jobs", "M": "mapjobs", "D": "deployments"}[manifest["kind"][0]])
    assert "\n" not in text and "pydantic" not in text


def test_a_long_name_is_refused_since_pods_carry_it_as_a_label() -> None:
    with pytest.raises(InvalidResource, match=r"at most 63 characters: worker Pods carry it"):
        Deployment(metadata={"name": "x" * 64})
    assert Deployment(metadata={"name": "x" * 63}).name == "x" * 63


def test_constructors_refuse_in_the_same_words() -> None:
    with pytest.raises(InvalidResource, match=r"^JobSpec: set exactly one of function and command"):
        JobSpec()
    with pytest.raises(InvalidResource, match=r"^Payload: sha256: must be a SHA-256 digest"):
        JobSpec(id=ID, function=Function(payload=Payload(sha256="x", size=1, python="3.11")))
    with pytest.raises(InvalidResource, match=r"^jobs.shoal.dev/x: spec.function: set exactly one"):
        Job(metadata={"name": "x"}, spec={"function": {}})


def test_a_kind_that_is_not_ours_is_refused() -> None:
    with pytest.raises(InvalidResource, match=r"kind: must be one of Job, MapJob, Deployment"):
        resource_from_dict({"kind": "Pod"})
    with pytest.raises(InvalidResource, match=r"not a YAML object"):
        MapJob.from_yaml("- 1")
    with pytest.raises(InvalidResource, match=r"apiVersion: must be one of 'shoal.dev/v1alpha1'"):
        Job.from_dict({"apiVersion": "batch/v1", "kind": "Job", "spec": {"command": ["ls"]}})


def test_the_error_is_one_of_shoals_and_names_fields_as_they_were_given() -> None:
    with pytest.raises(ShoalException) as refused:
        DeploymentSpec(idle_seconds=-1, min_workers=-1)
    assert isinstance(refused.value, InvalidResource)
    assert [path for path, _ in refused.value.problems] == [("min_workers",), ("idle_seconds",)]
