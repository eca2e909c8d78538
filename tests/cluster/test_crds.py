"""A real API server takes the definitions, fills defaults, and refuses what the rules forbid."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal import crdgen

CRDS = Path(crdgen.__file__).parents[2] / "crds"
DEFINITIONS = [f"crd/{plural}.shoal.dev" for plural in ("jobs", "mapjobs", "deployments")]
SHA = "ab" * 32
CODE: dict[str, Any] = {"parts": [{"sha256": SHA, "size": 1}]}
ID = "k3x9" * 6
NAMED = {"name": "math.gcd", "args": [12, 18]}
PICKLED = {"payload": {"sha256": SHA, "size": 1, "python": "3.12"}}
INLINE = {"inline": [1, None, "x"]}


def kubectl(*words: str, given: Any = None) -> subprocess.CompletedProcess[str]:
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    text = json.dumps(given) if given is not None else None
    return subprocess.run(
        ["kubectl", *words], input=text, capture_output=True, text=True, timeout=60, check=False
    )


def well(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


class Space:
    """A namespace of its own, and the verbs that the tests say."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made = 0

    def manifest(self, kind: str, spec: Any, name: str | None = None) -> dict[str, Any]:
        self.made += 1
        return {
            "apiVersion": "shoal.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name or f"x{self.made}", "namespace": self.name},
            "spec": spec,
        }

    def create(self, kind: str, spec: Any, name: str | None = None) -> dict[str, Any]:
        manifest = self.manifest(kind, spec, name)
        return json.loads(well(kubectl("create", "-o", "json", "-f", "-", given=manifest)))  # type: ignore[no-any-return]

    def refused(self, kind: str, spec: Any, name: str | None = None) -> str:
        manifest = self.manifest(kind, spec, name)
        done = kubectl("create", "--dry-run=server", "-f", "-", given=manifest)
        assert done.returncode != 0, f"accepted: {spec}"
        return done.stderr

    def patch(
        self, what: dict[str, Any], patch: Any, *words: str
    ) -> subprocess.CompletedProcess[str]:
        return kubectl(
            "patch",
            {"Job": "jobs", "MapJob": "mapjobs", "Deployment": "deployments"}[what["kind"]]
            + f".shoal.dev/{what['metadata']['name']}",
            f"--namespace={self.name}",
            "--type=merge",
            f"--patch={json.dumps(patch)}",
            *words,
        )


def hand_over_to_helm() -> None:
    """Let the chart upgrade definitions that it did not bring, as its README says."""
    found = json.loads(well(kubectl("get", *DEFINITIONS, "-o", "json")))["items"]
    for definition in found:
        meta = definition["metadata"]
        if "meta.helm.sh/release-name" not in meta.get("annotations", {}):
            name = f"crd/{meta['name']}"
            owner = ("release-name=shoal", "release-namespace=shoal-system")
            well(kubectl("annotate", name, *(f"meta.helm.sh/{word}" for word in owner)))
            well(kubectl("label", "--overwrite", name, "app.kubernetes.io/managed-by=Helm"))


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    well(kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS)))
    hand_over_to_helm()
    well(
        kubectl(
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            *DEFINITIONS,
        )
    )
    name = f"crds-{uuid.uuid4().hex[:8]}"
    well(kubectl("create", "namespace", name))
    yield Space(name)
    kubectl("delete", "namespace", name, "--wait=false")


def test_the_api_server_finds_no_fault_with_the_definitions(space: Space) -> None:
    for plural in ("jobs", "mapjobs", "deployments"):
        found = json.loads(well(kubectl("get", f"crd/{plural}.shoal.dev", "-o", "json")))
        conditions = {c["type"]: c for c in found["status"]["conditions"]}
        assert conditions["Established"]["status"] == "True"
        assert "NonStructuralSchema" not in conditions
        assert "KubernetesAPIApprovalPolicyConformant" not in conditions


def test_client_side_apply_takes_the_definitions_too(space: Space) -> None:
    well(kubectl("apply", "--dry-run=server", "-f", str(CRDS)))


def test_defaults_are_filled(space: Space) -> None:
    job = space.create("Job", {"function": NAMED})
    assert job["spec"] == {
        "function": NAMED,
        "maxAttempts": 1,
        "retryWithMoreMemory": False,
        "backoffSeconds": 1,
        "maxDisruptions": 5,
        "isolation": "shared",
        "ttlSecondsAfterFinished": 86400,
        "suspend": False,
        "cancel": False,
    }
    bare = space.manifest("Deployment", None)
    del bare["spec"]
    made = json.loads(well(kubectl("create", "-o", "json", "-f", "-", given=bare)))
    assert made["spec"] == {"minWorkers": 0, "idleSeconds": 300}


def test_json_arguments_arrive_as_they_were(space: Space) -> None:
    args = [1, 1.5, None, "x", [None], {"a": None, "b": [{}]}, 2**53 + 1]
    spec = {"function": {"name": "a.b", "args": args, "kwargs": {"k": None, "l": [1]}}}
    made = space.manifest("Job", spec)
    path = f"/apis/shoal.dev/v1alpha1/namespaces/{space.name}/jobs"
    done = json.loads(well(kubectl("create", "--raw", path, "-f", "-", given=made)))
    assert done["spec"]["function"] == spec["function"]


def test_kubectl_apply_refuses_an_unknown_field(space: Space) -> None:
    manifest = space.manifest("Job", {"function": NAMED, "sidecars": []})
    done = kubectl("apply", "-f", "-", given=manifest)
    assert done.returncode != 0
    assert 'unknown field "spec.sidecars"' in done.stderr


def test_applying_the_same_manifest_twice_changes_nothing(space: Space) -> None:
    manifest = space.manifest("MapJob", {"function": {"name": "a.b"}, "items": INLINE})
    assert "created" in well(kubectl("apply", "-f", "-", given=manifest))
    assert "unchanged" in well(kubectl("apply", "-f", "-", given=manifest))


REFUSED = [
    ("Job", {}, "set exactly one of function and command"),
    ("Job", {"function": NAMED, "command": ["ls"]}, "set exactly one of function and command"),
    ("Job", {"function": {}}, "set exactly one of name and payload"),
    ("Job", {"function": NAMED | PICKLED, "id": ID}, "set exactly one of name and payload"),
    ("Job", {"function": PICKLED | {"args": []}, "id": ID}, "args and kwargs go with name"),
    ("Job", {"function": PICKLED | {"kwargs": {}}, "id": ID}, "args and kwargs go with name"),
    ("Job", {"function": PICKLED}, "needs spec.id"),
    ("Job", {"command": ["ls"], "contextVariables": PICKLED["payload"]}, "needs spec.id"),
    (
        "Job",
        {"function": NAMED, "contextVariables": PICKLED["payload"], "id": ID},
        "contextVariables go with command",
    ),
    ("Job", {"command": ["ls"], "deployment": {"ref": "a", "image": "b"}}, "set either ref"),
    (
        "Job",
        {"command": ["ls"], "deployment": {"code": CODE | {"sysPaths": ["/a"]}}},
        "must be a path relative to the code's root",
    ),
    (
        "Job",
        {
            "command": ["ls"],
            "deployment": {"code": CODE | {"workingDirectory": "a/../.."}},
        },
        "must be a path relative to the code's root",
    ),
    (
        "Job",
        {"command": ["ls"], "deployment": {"code": {"parts": []}}},
        "should have at least 1 items",
    ),
    (
        "Job",
        {"command": ["ls"], "deployment": {"code": {"parts": CODE["parts"] * 65}}},
        "must have at most 64 items",
    ),
    ("Job", {"command": ["ls"], "id": "Short"}, "spec.id in body should match"),
    ("Job", {"function": {"name": "gcd"}}, "spec.function.name in body should match"),
    ("Job", {"command": ["ls"], "isolation": "vm"}, 'supported values: "shared", "job"'),
    ("Job", {"command": ["ls"], "maxAttempts": 0}, "greater than or equal to 1"),
    ("Job", {"command": ["ls"], "resources": {"memory": "lots"}}, "spec.resources.memory"),
    ("MapJob", {"function": {"name": "a.b"}, "items": {}}, "set exactly one of inline and packed"),
    (
        "MapJob",
        {"function": {"name": "a.b"}, "items": INLINE | {"packed": {"count": 1}}},
        "set exactly one of inline and packed",
    ),
    (
        "MapJob",
        {"function": {"name": "a.b"}, "items": {"packed": {"count": 1}}},
        "items.packed goes with function.payload",
    ),
    ("MapJob", {"function": PICKLED, "items": {"packed": {"count": 1}}}, "needs spec.id"),
    ("MapJob", {"function": {"name": "a.b"}}, "spec.items: Required value"),
    (
        "MapJob",
        {"function": {"name": "a.b"}, "items": {"inline": [0] * 1001}},
        "must have at most 1000 items",
    ),
    (
        "Deployment",
        {"environmentVariables": [{"name": "A"}]},
        "set exactly one of value and valueFrom",
    ),
    (
        "Deployment",
        {"environmentVariables": [{"name": "A", "valueFrom": {}}]},
        "set exactly one of secretKeyRef and configMapKeyRef",
    ),
    (
        "Deployment",
        {"envFrom": [{"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}]},
        "set exactly one of secretRef and configMapRef",
    ),
    ("Deployment", {"environment": {}}, "set requirements, conda, software or git"),
    (
        "Deployment",
        {"environment": {"conda": {"channels": ["forge"]}}},
        "set exactly one of packages and explicit",
    ),
    (
        "Deployment",
        {"environment": {"conda": {"packages": ["python"]}}},
        "packages come from channels: set both",
    ),
    (
        "Deployment",
        {"environment": {"conda": {"explicit": ["zlib=1.3"]}}},
        "spec.environment.conda.explicit[0] in body should match",
    ),
    ("Deployment", {"minWorkers": 3, "maxWorkers": 2}, "minWorkers must not be above maxWorkers"),
]


@pytest.mark.parametrize(("kind", "spec", "words"), REFUSED, ids=lambda v: v if v else None)
def test_what_a_rule_forbids_is_refused_with_its_message(
    space: Space, kind: str, spec: dict[str, Any], words: str
) -> None:
    assert words in space.refused(kind, spec)


def test_a_name_too_long_for_a_label_is_refused(space: Space) -> None:
    assert "at most 63 characters" in space.refused("Deployment", {}, name="x" * 64)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("id", {"id": ID}),
    ("deployment", {"deployment": {"image": "python"}}),
    ("resources", {"resources": {"cpu": 1}}),
    ("storage", {"storage": {"bucket": "data", "endpoint": "http://s3"}}),
    ("maxAttempts", {"maxAttempts": 2}),
    ("maxDisruptions", {"maxDisruptions": 2}),
    ("isolation", {"isolation": "job"}),
    ("deploymentDeadlineSeconds", {"deploymentDeadlineSeconds": 5}),
    ("function", {"function": {"name": "a.c"}}),
    ("function", {"function": {"args": [12, 19]}}),
    ("function", {"function": {"args": None}}),
    ("function", {"function": {"args": None, "kwargs": {"a": 1}}}),
]


@pytest.mark.parametrize(("field", "patch"), CHANGES, ids=str)
def test_a_job_that_was_submitted_stays_what_it_is(
    space: Space, field: str, patch: dict[str, Any]
) -> None:
    job = space.create("Job", {"function": NAMED})
    done = space.patch(job, {"spec": patch})
    assert done.returncode != 0
    message = f"{field} can't be changed: delete this jobs.shoal.dev and create a new one"
    assert f"spec.{field}: " in done.stderr and message in done.stderr


def test_keyword_arguments_do_not_turn_into_positional_ones(space: Space) -> None:
    job = space.create("Job", {"function": {"name": "a.b", "kwargs": {"a": 1}}})
    done = space.patch(job, {"spec": {"function": {"kwargs": None, "args": [1]}}})
    assert "function can't be changed" in done.stderr


def test_an_optional_field_that_was_set_can_not_be_removed(space: Space) -> None:
    job = space.create("Job", {"command": ["ls"], "id": ID, "resources": {"cpu": 1}})
    for field in ("command", "id", "resources"):
        assert f"{field} can't be changed" in space.patch(job, {"spec": {field: None}}).stderr


def test_the_items_of_a_map_stay(space: Space) -> None:
    spec = {"function": {"name": "a.b"}, "items": INLINE, "parallelism": 2}
    made = space.create("MapJob", spec)
    for items in ({"inline": [1]}, {"inline": [1, None, "y"]}, {"inline": None}):
        assert "items can't be changed" in space.patch(made, {"spec": {"items": items}}).stderr
    well(space.patch(made, {"spec": {"parallelism": 3}}))
    well(space.patch(made, {"spec": {"parallelism": None}}))


def test_what_may_change_can_be_changed(space: Space) -> None:
    job = space.create("Job", {"function": NAMED})
    well(space.patch(job, {"spec": {"ttlSecondsAfterFinished": 5, "activeDeadlineSeconds": 60}}))
    well(space.patch(job, {"spec": {"activeDeadlineSeconds": None}}))
    workers = space.create("Deployment", {"image": "python", "minWorkers": 1})
    well(space.patch(workers, {"spec": {"minWorkers": 0, "maxWorkers": 3, "idleSeconds": 9}}))
    assert "image can't be changed" in space.patch(workers, {"spec": {"image": "pypy"}}).stderr


def test_cancel_can_not_be_taken_back(space: Space) -> None:
    job = space.create("Job", {"function": NAMED})
    well(space.patch(job, {"spec": {"cancel": True}}))
    for value in (False, None):
        assert "cancel can't be undone" in space.patch(job, {"spec": {"cancel": value}}).stderr


def test_the_length_of_the_ledger_never_falls(space: Space) -> None:
    job = space.create("Job", {"function": NAMED})
    sub = "--subresource=status"
    well(space.patch(job, {"status": {"ledger": {"length": 2, "digest": SHA}}}, sub))
    well(space.patch(job, {"status": {"ledger": {"length": 3}, "phase": "Running"}}, sub))
    falls = space.patch(job, {"status": {"ledger": {"length": 2}}}, sub)
    assert "status.ledger.length never falls" in falls.stderr
    for patch in ({"ledger": None}, None):
        gone = space.patch(job, {"status": patch}, sub)
        assert "status.ledger can't be removed" in gone.stderr


def test_kubectl_scale_sets_the_least_number_of_workers(space: Space) -> None:
    name = space.create("Deployment", {})["metadata"]["name"]
    full = f"deployments.shoal.dev/{name}"
    well(kubectl("scale", full, f"--namespace={space.name}", "--replicas=2"))
    least = well(
        kubectl("get", full, f"--namespace={space.name}", "-o", "jsonpath={.spec.minWorkers}")
    )
    assert least == "2"


def test_short_names_and_the_category_work(space: Space) -> None:
    for word in ("sjob", "smap", "sdep", "shoal", "jobs.shoal.dev,mapjobs.shoal.dev"):
        well(kubectl("get", word, f"--namespace={space.name}"))


def test_kubectl_explain_tells_what_a_field_means(space: Space) -> None:
    text = " ".join(well(kubectl("explain", "smap.spec.items.inline")).split())
    assert "Up to 1000 items as JSON" in text
