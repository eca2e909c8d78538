"""Every file in `examples/` does on the cluster what it says: kubectl's, the SDK's, the demo.

They run in a namespace of the test's own, by the same programs that a reader would call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Place

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFESTS = {
    path: list(yaml.safe_load_all(path.read_text())) for path in sorted(EXAMPLES.glob("*.yaml"))
}
SCRIPTS = sorted(EXAMPLES.glob("sdk_*.py"))
PATIENCE = 120

#: What each example must come to: a part of the status by kind and name, or of what is printed.
STATUSES: dict[str, dict[str, Any]] = {
    "hypot": {"result": 5},
    "fill": {
        "result": "- A manifest is text, and so\n  are its arguments: whatever\n  JSON can say."
    },
    "calendar": {"exitCode": 0},
    "in-an-image": {"exitCode": 0},
    "medians": {"progress": "8/8", "succeeded": 8},
    "hardy": {"progress": "2/2", "succeeded": 2},
    "on-steady": {"result": "UTC", "deploymentName": "steady"},
}
PRINTED = {
    "sdk_as_completed": ["block 3: 27207 -> 0000a4f74a51..."],
    "sdk_blocking": ["[3, 5, 6]", "1 2"],
    "sdk_deployment": ["hello; True", "'# One call of an importable function", "Python 3.11"],
    "sdk_run_command": ["January 2026", "exit code 0", "exit code 3, and its last words: no such"],
    "sdk_run_function": ["running", "499999500000", "2598960", "as expected: ZeroDivisionError"],
    "sdk_run_map": [
        "1161 takes 181 steps",
        "task 3 failed; the others: [20, 22, 24, None, 28, 30]",
    ],
    "sdk_submit_attach": ["[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]", "Complete, 10/10", "Cancelled"],
}


def run(*words: str | Path, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
async def test_a_manifest_runs_once_however_often_it_is_applied(path: Path, place: Place) -> None:
    run("kubectl", "apply", "-n", place.namespace, "-f", path)
    ends = {}
    for body in MANIFESTS[path]:
        if body["kind"] != "Deployment":
            name = body["metadata"]["name"]
            ends[name] = await place.end(body["kind"], name, seconds=PATIENCE)
            found = {key: ends[name].get(key) for key in STATUSES[name]}
            assert (ends[name]["phase"], found) == ("Complete", STATUSES[name])

    again = run("kubectl", "apply", "-n", place.namespace, "-f", path)
    assert {line.split()[-1] for line in again.splitlines()} == {"unchanged"}
    for body in MANIFESTS[path]:
        if (name := body["metadata"]["name"]) in ends:
            assert (await place.get(body["kind"], name))["status"] == ends[name]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_prints_what_it_is_for(path: Path, place: Place, bucket_key: str) -> None:
    printed = run(sys.executable, path, SHOAL_NAMESPACE=place.namespace)
    for words in PRINTED[path.stem]:
        assert words in printed


def test_the_demo_measures_the_standard_library(
    place: Place, bucket_key: str, tmp_path: Path
) -> None:
    chart = tmp_path / "chart.png"
    script = EXAMPLES / "demo" / "demo.py"
    printed = run(
        sys.executable, script, "--workers=2", "--chart", chart, SHOAL_NAMESPACE=place.namespace
    )
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert int(rows["asyncio"][1]) > 20
    assert "asyncio.base_events" in rows["asyncio"][6]
    assert "results are back" in printed
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_the_role_of_examples_rbac_is_enough_for_the_sdk(
    place: Place, bucket_key: str, tmp_path: Path
) -> None:
    run("kubectl", "create", "serviceaccount", "shoal-user", "-n", place.namespace)
    run("kubectl", "apply", "-n", place.namespace, "-f", EXAMPLES / "rbac" / "user.yaml")
    token = run("kubectl", "create", "token", "shoal-user", "-n", place.namespace)
    config = yaml.safe_load(run("kubectl", "config", "view", "--raw", "--minify"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))

    for name in ("sdk_run_function", "sdk_submit_attach"):
        script = EXAMPLES / f"{name}.py"
        printed = run(
            sys.executable, script, KUBECONFIG=str(kubeconfig), SHOAL_NAMESPACE=place.namespace
        )
        for words in PRINTED[name]:
            assert words in printed
