"""The definitions: structural, described, bounded, every rule there, equal to what is committed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shoal import crdgen
from shoal.resources import Deployment, Job, MapJob, Resource

KINDS: list[type[Resource]] = [Job, MapJob, Deployment]
ROOT = Path(crdgen.__file__).parents[2]
ANNOTATION_LIMIT = 262144
FREE = "x-kubernetes-preserve-unknown-fields"

Path_ = tuple[str, ...]


def nodes(schema: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from nodes(sub, (*path, name))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], (*path, f"[{key}]"))


def rules(model: type[Resource]) -> dict[str, list[str]]:
    return {
        ".".join(path): [rule["message"] for rule in node["x-kubernetes-validations"]]
        for path, node in nodes(crdgen.schema_of(model))
        if "x-kubernetes-validations" in node
    }


def at(model: type[Resource], path: str) -> dict[str, Any]:
    node = crdgen.schema_of(model)
    for name in path.split("."):
        node = node["properties"][name]
    return node


@pytest.mark.parametrize("model", KINDS)
def test_the_schema_is_structural(model: type[Resource]) -> None:
    for path, node in nodes(crdgen.schema_of(model)):
        assert not {"$ref", "$defs", "title", "const", "anyOf", "exclusiveMinimum"} & set(node), (
            path
        )
        assert not ("properties" in node and "additionalProperties" in node), path
        assert "type" in node or node.get(FREE) or node.get("x-kubernetes-int-or-string"), path
        assert "default" not in node or node["default"] is not None, path


@pytest.mark.parametrize("model", KINDS)
def test_every_field_is_described_in_one_paragraph(model: type[Resource]) -> None:
    for path, node in nodes(crdgen.schema_of(model)):
        if path[-1:] in ((), ("metadata",)) or path[-1] == "[items]":
            continue
        assert node.get("description", "").endswith("."), path
        assert "\n" not in node["description"], path


@pytest.mark.parametrize("model", KINDS)
def test_every_text_and_list_of_a_spec_is_bounded(model: type[Resource]) -> None:
    for path, node in nodes(crdgen.schema_of(model)["properties"]["spec"]):
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path


@pytest.mark.parametrize("model", KINDS)
def test_the_definition_fits_into_kubectls_annotation(model: type[Resource]) -> None:
    assert len(crdgen.manifest(model)) < ANNOTATION_LIMIT / 4


@pytest.mark.parametrize("model", KINDS)
def test_the_status_is_a_subresource_with_conditions_keyed_by_type(model: type[Resource]) -> None:
    [version] = crdgen.definition(model)["spec"]["versions"]
    assert version["subresources"]["status"] == {}
    conditions = at(model, "status.conditions")
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert set(conditions["items"]["required"]) == {
        "type",
        "status",
        "reason",
        "message",
        "lastTransitionTime",
    }


def test_a_deployment_can_be_scaled() -> None:
    [version] = crdgen.definition(Deployment)["spec"]["versions"]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.minWorkers",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


@pytest.mark.parametrize("model", [Job, MapJob])
def test_kubectl_get_shows_state_progress_and_duration(model: type[Resource]) -> None:
    [version] = crdgen.definition(model)["spec"]["versions"]
    shown = {c["name"]: c["jsonPath"] for c in version["additionalPrinterColumns"]}
    assert shown["Status"] == ".status.phase"
    assert shown["Progress"] == ".status.progress"
    assert shown["Duration"] == ".status.duration"


@pytest.mark.parametrize("model", KINDS)
def test_names_keep_clear_of_kubernetes_own_kinds(model: type[Resource]) -> None:
    names = crdgen.definition(model)["spec"]["names"]
    assert names["categories"] == ["shoal"]
    assert (
        names["shortNames"]
        == {"jobs": ["sjob"], "mapjobs": ["smap"], "deployments": ["sdep"]}[names["plural"]]
    )


def test_free_json_is_kept_as_it_is() -> None:
    assert at(Job, "spec.function.args")["items"][FREE]
    assert at(Job, "spec.function.args")["items"]["nullable"]
    assert at(Job, "spec.function.kwargs")[FREE]
    assert at(MapJob, "spec.items.inline")["items"][FREE]
    assert at(Job, "status.result")[FREE]


def test_defaults_stand_in_the_schema() -> None:
    defaults = {
        ".".join(path[1:]): node["default"]
        for path, node in nodes(crdgen.schema_of(Job))
        if "default" in node and path[:2] != ("spec", "deployment") and path[0] == "spec"
    }
    assert defaults == {
        "maxAttempts": 1,
        "maxDisruptions": 5,
        "retryWithMoreMemory": False,
        "backoffSeconds": 1,
        "isolation": "shared",
        "ttlSecondsAfterFinished": 86400,
        "suspend": False,
        "cancel": False,
    }
    assert at(Deployment, "spec")["default"] == {}
    assert at(Deployment, "spec.idleSeconds")["default"] == 300
    # With a default, `deployment: {ref: x}` would no longer be a ref alone.
    assert "default" not in at(Job, "spec.deployment.idleSeconds")


def immutable(*fields: str, what: str) -> set[str]:
    return {f"{f} can't be changed: delete this {what} and create a new one" for f in fields}


RUN = (
    "id",
    "deployment",
    "resources",
    "storage",
    "maxAttempts",
    "maxDisruptions",
    "retryWithMoreMemory",
    "taskTimeoutSeconds",
    "backoffSeconds",
    "isolation",
    "deploymentDeadlineSeconds",
    "startDeadlineSeconds",
    "function",
)


def test_every_rule_of_a_job_is_there() -> None:
    found = rules(Job)
    assert immutable(*RUN, "command", "contextVariables", what="jobs.shoal.dev") < set(
        found["spec"]
    )
    assert "set exactly one of function and command" in found["spec"]
    assert any("needs spec.id" in message for message in found["spec"])
    assert any("go with command" in message for message in found["spec"])
    assert found["spec.function"][0] == "set exactly one of name and payload"
    assert "args and kwargs go with name" in found["spec.function"][1]
    assert "set either ref" in found["spec.deployment"][0]
    assert "can't be undone" in found["spec.cancel"][0]
    assert found["status.ledger"] == ["status.ledger.length never falls"]
    assert any("status.ledger can't be removed" in message for message in found[""])
    assert any("at most 63 characters" in message for message in found[""])
    assert "without .." in found["spec.deployment.code.workingDirectory"][0]
    assert "without .." in found["spec.deployment.code.sysPaths.[items]"][0]


def test_every_rule_of_a_map_is_there() -> None:
    found = rules(MapJob)
    assert immutable(*RUN, "items", "speculation", what="mapjobs.shoal.dev") < set(found["spec"])
    assert found["spec.items"] == ["set exactly one of inline and packed"]
    assert found["spec.function"] == ["set exactly one of name and payload"]
    assert any("items.packed goes with function.payload" in m for m in found["spec"])
    assert any("needs spec.id" in message for message in found["spec"])
    assert "can't be undone" in found["spec.cancel"][0]
    assert found["status.ledger"] == ["status.ledger.length never falls"]


def test_every_rule_of_a_deployment_is_there() -> None:
    spec = crdgen.schema_of(Deployment)["properties"]["spec"]
    changeable = {"minWorkers", "maxWorkers", "idleSeconds"}
    fixed = immutable(*(set(spec["properties"]) - changeable), what="deployments.shoal.dev")
    across = {
        "minWorkers must not be above maxWorkers",
        "code and environment.git both say what the code is: remove one of them",
    }
    assert fixed | across == set(rules(Deployment)["spec"])


@pytest.mark.parametrize("model", [Job, MapJob])
def test_a_field_is_immutable_unless_it_is_named_here(model: type[Resource]) -> None:
    changeable = {"parallelism", "suspend", "cancel"}
    changeable |= {"activeDeadlineSeconds", "ttlSecondsAfterFinished"}
    spec = crdgen.schema_of(model)["properties"]["spec"]
    fixed = immutable(*(set(spec["properties"]) - changeable), what=model.names.crd_name)
    assert fixed <= set(rules(model)["spec"])


def test_committed_files_are_what_the_models_make() -> None:
    assert crdgen.main(["--check"]) == 0


def test_check_names_the_files_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crdgen.main(["--root", str(tmp_path), "--check"]) == 1
    assert "crds/jobs.yaml" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert crdgen.main(["--root", str(tmp_path)]) == 0
    assert crdgen.main(["--root", str(tmp_path), "--check"]) == 0
    (tmp_path / "crds" / "jobs.yaml").write_text("old")
    assert crdgen.main(["--root", str(tmp_path), "--check"]) == 1


@pytest.mark.parametrize("model", KINDS)
def test_the_charts_copy_differs_by_its_switches_only(model: type[Resource]) -> None:
    template = crdgen.chart_template(model)
    assert template.startswith("{{- if and .Values.crds.enabled ")
    assert "helm.sh/resource-policy: keep" in template
    plain = re.sub(
        r"\{\{- if \.Values\.crds\.keep \}\}.*?\{\{- end \}\}\n", "", template, flags=re.S
    )
    plain = "\n".join(line for line in plain.splitlines() if "{{" not in line)
    assert yaml.safe_load(plain) == crdgen.definition(model)
