"""Values: every variant renders and passes lint, every key is commented and in the schema."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import yaml
from rendering import CHART, KUBERNETES, ROOT, Release, helm

from shoal import resources

VARIANTS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
CHART_YAML = yaml.safe_load((CHART / "Chart.yaml").read_text())

Render = Callable[..., Release]


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from schemas(sub, f"{path}.{name}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_lint_finds_nothing(variant: str) -> None:
    values = str(CHART / "ci" / f"{variant}-values.yaml")
    done = helm("lint", "--strict", "--kube-version", KUBERNETES, "-f", values, str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_renders_objects_with_names_and_kinds(variant: str, render: Render) -> None:
    release = render(variant)
    seen = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in release]
    assert seen and len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("miniio.enabled=true", "miniio"),
        ("minio.enable=true", "enable"),
        ("operator.port=80", "/operator/port"),
        ("image.digest=latest", "/image/digest"),
        ("storage.endpoint=s3.example.org", "/storage/endpoint"),
        ("minio.auth.password=short", "/minio/auth/password"),
        ("workers.pythonImages.2\\.7=python:2.7", "pythonImages"),
        ("workers.startDeadlineSeconds=0", "startDeadlineSeconds"),
        ("watchNamespaces={A_B}", "/watchNamespaces/0"),
        (
            "operator.extraEnv[0].name=SHOAL_OP_PORT,operator.extraEnv[0].value=x",
            "operator.extraEnv: the chart sets SHOAL_OP_PORT itself",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, word: str) -> None:
    done = helm("template", "x", str(CHART), "--kube-version", KUBERNETES, "--set", setting)
    assert done.returncode != 0
    assert word in done.stderr


def test_the_schema_has_just_the_keys_of_the_values() -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        if path != "global":  # Helm itself and parent charts put more there
            assert schema["additionalProperties"] is False, path
        known = set(schema["properties"])
        assert set(values) <= known, path
        for name, value in values.items():
            sub = schema["properties"][name]
            if isinstance(value, dict) and "properties" in sub:
                compare(value, sub, f"{path}.{name}".strip("."))

    compare(VALUES, SCHEMA, "")
    assert set(VALUES) == set(SCHEMA["properties"])


def test_every_section_and_setting_has_a_comment() -> None:
    """A comment above a key holds for the keys right below it of the same depth, until a gap."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    self_explaining = {"registry", "repository", "enabled", "nodeSelector", "tolerations"}
    self_explaining |= {"affinity", "resources", "username", "pullPolicy", "create", "port", "size"}
    self_explaining |= {"requests", "limits", "bucket", "crds", "minio", "auth", "service"}
    self_explaining |= {"persistence", "global", "rbac", "operator", "image", "cleanup"}
    self_explaining |= {"podAnnotations", "podLabels", "priorityClassName", "serviceAccount"}
    self_explaining |= {"livenessProbe", "readinessProbe", "startupProbe", "podDisruptionBudget"}
    self_explaining |= {"memory", "maxUnavailable", "tag"}
    for before, line in pairwise(lines):
        found = re.match(r"^ *([a-zA-Z]\w*):", line)
        if found and found[1] not in self_explaining:
            assert before.strip().startswith("#"), line


def test_versions_agree_with_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (CHART_YAML["version"], CHART_YAML["appVersion"]) == (version, version)


def test_artifact_hub_is_told_of_every_kind_with_an_example_that_is_valid() -> None:
    notes = CHART_YAML["annotations"]
    listed = yaml.safe_load(notes["artifacthub.io/crds"])
    assert {c["kind"]: c["name"] for c in listed} == {
        kind: names.crd_name for kind, names in resources.KINDS.items()
    }
    examples = yaml.safe_load(notes["artifacthub.io/crdsExamples"])
    assert {resources.resource_from_dict(e).names.kind for e in examples} == set(resources.KINDS)


def test_long_names_stay_within_kubernetes_limits(render: Render) -> None:
    release = render("minio", release="r" * 53, namespace="n" * 63)
    for thing in release:
        if thing["kind"] in ("Service", "Deployment", "Pod", "Job"):
            assert len(thing["metadata"]["name"]) <= 63
        for value in thing["metadata"].get("labels", {}).values():
            assert len(value) <= 63
    assert len(release.environment()["SHOAL_OP_INSTANCE"]) <= 63
