"""A namespace for the snippets, with the bucket's key in it."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import Shell
from snippets import ROOT


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    name = f"docs-{secrets.token_hex(4)}"
    bare = Shell(name)
    bare.run("kubectl", "create", "namespace", name)
    config = json.loads(bare.run("kubectl", "config", "view", "--raw", "--minify", "-o", "json"))
    config["contexts"][0]["context"]["namespace"] = name
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    shell = Shell(
        name,
        {
            "KUBECONFIG": str(kubeconfig),
            "SHOAL_NAMESPACE": name,
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        },
    )
    secret = json.loads(
        bare.run("kubectl", "-n", "shoal-system", "get", "secret", "shoal-minio", "-o", "json")
    )
    secret["metadata"] = {"name": "shoal-minio"}
    shell.run("kubectl", "create", "-f", "-", stdin=json.dumps(secret))
    until = time.monotonic() + 30
    while not shell.run("kubectl", "get", "configmap", "shoal", "-o", "name", check=False):
        assert time.monotonic() < until, f"the operator does not serve {name}"
        time.sleep(0.2)
    yield shell
    bare.run("kubectl", "delete", "namespace", name, "--wait=false")
