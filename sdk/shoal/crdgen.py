"""Makes the CustomResourceDefinitions from the models of `shoal.resources`.

    python -m shoal.crdgen            # writes crds/ and the chart's copies
    python -m shoal.crdgen --check    # says what differs, exit code 1

A model's JSON schema (pydantic) is not yet a structural schema (Kubernetes): `structural` inlines
references, replaces "or null" by "may be absent", and drops what the API server does not accept.
The chart's copies are the same text as templates, so that `helm upgrade` updates them and
`helm uninstall` keeps them, which a chart's own crds/ folder can do neither of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

import yaml

from .resources import CATEGORY, GROUP, VERSION, Deployment, Job, MapJob, Resource

Schema = dict[str, Any]

_ROOT = Path(__file__).parents[2]
_HEADER = (
    "# Made by `python -m shoal.crdgen` from the models in sdk/shoal/resources: change those.\n"
)
_TYPE_META = {
    "apiVersion": "Version of this form of the resource: shoal.dev/v1alpha1.",
    "kind": "Kind of the resource.",
}


def _column(name: str, path: str, type: str = "string", *, wide: bool = False) -> Schema:
    return {"name": name, "type": type, "jsonPath": path} | ({"priority": 1} if wide else {})


_AGE = _column("Age", ".metadata.creationTimestamp", "date")
_RUN_COLUMNS = [
    _column("Status", ".status.phase"),
    _column("Progress", ".status.progress"),
    _column("Duration", ".status.duration"),
    _AGE,
    _column("Deployment", ".status.deploymentName", wide=True),
    _column("Message", '.status.conditions[?(@.type=="Finished")].message', wide=True),
]
COLUMNS: dict[type[Resource], list[Schema]] = {
    Job: _RUN_COLUMNS,
    MapJob: _RUN_COLUMNS,
    Deployment: [
        _column("Available", '.status.conditions[?(@.type=="Available")].status'),
        _column("Workers", ".status.replicas", "integer"),
        _column("Ready", ".status.readyReplicas", "integer"),
        _column("Idle", ".status.idle", "integer"),
        _AGE,
        _column("Image", ".spec.image", wide=True),
        _column("Code", ".status.codeSize", "integer", wide=True),
        _column("Environment", ".status.environment.phase", wide=True),
        _column("Message", '.status.conditions[?(@.type=="Available")].message', wide=True),
    ],
}
"""What `kubectl get` shows; the wide ones with `-o wide`."""


def structural(node: Schema, definitions: Mapping[str, Any]) -> Schema:
    """Turn pydantic's JSON schema into what apiextensions.k8s.io/v1 takes."""
    while (plain := _without_null(_inlined(node, definitions))) != node:
        node = plain
    schema: Schema = {}
    for key, value in sorted(node.items(), key=_reading_order):
        match key:
            case "properties":
                schema[key] = {name: structural(sub, definitions) for name, sub in value.items()}
            case "items":
                schema[key] = structural(value, definitions)
            case "additionalProperties" if isinstance(value, dict):
                schema[key] = structural(value, definitions)
            case "const":
                schema["enum"] = [value]
            case "description":
                schema[key] = cleandoc(value).replace("\n\n", " ").replace("\n", " ")
            case "default" if value is None:
                pass
            case "title" | "additionalProperties" | "$defs":
                pass
            case _:
                schema[key] = value
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    return schema


def _reading_order(item: tuple[str, Any]) -> int:
    order = ("description", "type", "default", "enum")
    late = ("required", "items", "properties", "x-kubernetes-validations")
    key = item[0]
    return order.index(key) if key in order else 100 + late.index(key) if key in late else 50


def _inlined(node: Schema, definitions: Mapping[str, Any]) -> Schema:
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].rsplit("/", 1)[1]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _without_null(node: Schema) -> Schema:
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1 or "x-kubernetes-int-or-string" in node:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**choices[0], **rest}


def schema_of(model: type[Resource]) -> Schema:
    """Return the whole schema of one kind, as it stands in its definition."""
    source = model.model_json_schema(by_alias=True)
    definitions = source.get("$defs", {})
    schema = structural(source, definitions)
    for name, description in _TYPE_META.items():
        schema["properties"][name] = {"type": "string", "description": description}
    schema["properties"]["metadata"] = {"type": "object"}
    schema["required"] = [name for name in schema.get("required", []) if name == "spec"]
    if not schema["required"]:
        del schema["required"]
    return schema


def definition(model: type[Resource]) -> Schema:
    """Return the CustomResourceDefinition of one kind."""
    names = model.names
    subresources: Schema = {"status": {}}
    if model is Deployment:
        subresources["scale"] = {
            "specReplicasPath": ".spec.minWorkers",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": names.crd_name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "plural": names.plural,
                "singular": names.singular,
                "shortNames": list(names.short_names),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": COLUMNS[model],
                    "subresources": subresources,
                    "schema": {"openAPIV3Schema": schema_of(model)},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: kubectl's users read this."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def manifest(model: type[Resource]) -> str:
    """Return the definition as the text of its file in crds/."""
    body = yaml.dump(definition(model), Dumper=_Dumper, sort_keys=False, width=100)
    return _HEADER + body


def chart_template(model: type[Resource]) -> str:
    """Return the same definition as a template of the chart."""
    text = manifest(model)
    if "{{" in text:
        raise ValueError(
            f"{model.names.crd_name}: a description holds '{{{{', which Helm would run"
        )
    name = f"  name: {model.names.crd_name}\n"
    keep = (
        "  {{- if .Values.crds.keep }}\n"
        "  annotations:\n"
        "    helm.sh/resource-policy: keep\n"
        "  {{- end }}\n"
        '  labels: {{- include "shoal.crdLabels" . | nindent 4 }}\n'
    )
    owned = f'(include "shoal.ownsCrd" (dict "root" . "name" "{model.names.crd_name}"))'
    body = text.replace(name, name + keep, 1)
    return f"{{{{- if and .Values.crds.enabled {owned} }}}}\n{body}{{{{- end }}}}\n"


def files(root: Path = _ROOT) -> dict[Path, str]:
    """Return every generated file and its text."""
    texts: dict[Path, str] = {}
    for model in COLUMNS:
        plural = model.names.plural
        texts[root / "crds" / f"{plural}.yaml"] = manifest(model)
        texts[root / "charts" / "shoal" / "templates" / f"crd-{plural}.yaml"] = chart_template(
            model
        )
    return texts


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or say which of them differ."""
    parser = argparse.ArgumentParser(prog="python -m shoal.crdgen", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail when files differ"
    )
    parser.add_argument("--root", type=Path, default=_ROOT, help="the checkout")
    options = parser.parse_args(arguments)
    texts = files(options.root)
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        print(f"{'differs from the models' if options.check else 'written'}: {path}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path])
    if stale and options.check:
        print("Run `python -m shoal.crdgen` and commit what it writes.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
