"""A second release beside the first: it installs, runs a job, keeps its key on upgrade, and goes.

It stands in namespaces of its own under enforced restricted Pod security, and serves one of them.
After `helm uninstall` nothing of it is left but the definitions, which are shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shoal import crdgen

CHART = Path(crdgen.__file__).parents[2] / "charts" / "shoal"
KINDS = (
    "pods,services,deployments.apps,replicasets.apps,secrets,configmaps,serviceaccounts,"
    "roles,rolebindings,leases,jobs.batch,deployments.shoal.dev"
)
CLUSTER_KINDS = "clusterroles,clusterrolebindings"


def run(*words: str) -> str:
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Release:
    home: str
    served: str

    @property
    def instance(self) -> str:
        return f"{self.home}.second"

    def helm(self, verb: str, *words: str) -> str:
        return run("helm", verb, "second", *words, "--namespace", self.home, "--timeout=120s")

    def put(self, verb: str, *settings: str) -> str:
        words = [str(CHART), "--wait", "-f", str(CHART / "ci" / "dev-values.yaml")]
        values = {
            "watchNamespaces": [self.served],
            "rbac.aggregateClusterRoles": False,
            "minio.service.type": "ClusterIP",
            "minio.userSecretNamespaces": [self.served],
        }
        words += [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
        return self.helm(verb, *words, *settings)

    def password(self, namespace: str) -> str:
        name = "secret/second-shoal-minio"
        return run("kubectl", "get", name, "-n", namespace, "-o", "jsonpath={.data.password}")

    def left(self) -> list[str]:
        """What carries the release's labels, anywhere, or is named after it."""
        found: list[dict[str, Any]] = []
        for namespace in (self.home, self.served):
            text = run("kubectl", "get", KINDS, "-n", namespace, "-o", "json")
            found += json.loads(text)["items"]
        found += json.loads(run("kubectl", "get", CLUSTER_KINDS, "-o", "json"))["items"]
        return [
            f"{item['kind']} {item['metadata']['name']}"
            for item in found
            if item["metadata"].get("labels", {}).get("shoal.dev/instance") == self.instance
            or item["metadata"]["name"].startswith(("second-", f"{self.home}-"))
        ]


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    mark = uuid.uuid4().hex[:8]
    made = Release(f"release-{mark}", f"served-{mark}")
    for namespace in (made.home, made.served):
        run("kubectl", "create", "namespace", namespace)
        restricted = "pod-security.kubernetes.io/enforce=restricted"
        run("kubectl", "label", "namespace", namespace, restricted)
    yield made
    subprocess.run(
        ["helm", "uninstall", "second", "-n", made.home, "--no-hooks", "--ignore-not-found"],
        capture_output=True,
        check=False,
    )
    run("kubectl", "delete", "namespace", made.home, made.served, "--wait=false")


def test_a_second_release_lives_beside_the_first(release: Release) -> None:
    notes = release.put("install")
    assert f"serves the namespaces {release.served}" in notes
    roles = run("kubectl", "get", CLUSTER_KINDS, "-o", "name")
    assert release.home not in roles

    release.helm("test")

    password = release.password(release.home)
    assert password and release.password(release.served) == password
    started = "jsonpath={.items[*].metadata.uid}"
    minio = ["-l", "app.kubernetes.io/component=minio", "-n", release.home, "-o", started]
    before = run("kubectl", "get", "pods", *minio)
    release.put("upgrade", "--set", "operator.logLevel=DEBUG")
    assert release.password(release.home) == password
    assert run("kubectl", "get", "pods", *minio) == before

    release.helm("uninstall", "--wait", "--cascade=foreground")
    assert release.left() == []
    run("kubectl", "get", "crd", "jobs.shoal.dev", "mapjobs.shoal.dev", "deployments.shoal.dev")
