"""Renders the chart with the real helm; a rendered release is a list of objects with look-ups."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "shoal"
KUBERNETES = "1.34.0"

Object = dict[str, Any]


class Release:
    """What `helm template` made."""

    def __init__(self, text: str) -> None:
        self.objects: list[Object] = [o for o in yaml.safe_load_all(text) if o]

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects)

    def of(self, *kinds: str) -> list[Object]:
        return [o for o in self.objects if o["kind"] in kinds]

    def one(self, kind: str, name: str, namespace: str | None = None) -> Object:
        found = [
            o
            for o in self.of(kind)
            if o["metadata"]["name"] == name and namespace in (None, o["metadata"].get("namespace"))
        ]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def pods(self) -> list[tuple[str, Object]]:
        """Every Pod spec, by the name of what it is in."""
        found = []
        for thing in self.of("Deployment", "Job", "Pod"):
            spec = thing["spec"] if thing["kind"] == "Pod" else thing["spec"]["template"]["spec"]
            found.append((f"{thing['kind']} {thing['metadata']['name']}", spec))
        return found

    def environment(self) -> dict[str, str]:
        """The operator's variables."""
        [operator] = [
            o
            for o in self.of("Deployment")
            if o["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
        ]
        [container] = operator["spec"]["template"]["spec"]["containers"]
        return {v["name"]: v.get("value", "") for v in container["env"]}


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("helm")
    if binary is None:
        binary = str(Path(cluster_tool("bin").strip()) / "helm")
        assert Path(binary).is_file(), "no helm: `python3 -m cluster build` makes one"
    return subprocess.run([binary, *words], capture_output=True, text=True, check=False)


def cluster_tool(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cluster", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
