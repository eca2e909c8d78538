"""`make demo` where no cluster can be had (the other way: tests/cluster/test_examples.py)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from snippets import ROOT


def test_without_docker_and_root_the_demo_runs_on_this_machine_and_says_so(tmp_path: Path) -> None:
    for name, does in (("id", "echo 1000"), ("docker", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    chart = tmp_path / "chart.png"
    variables = {key: value for key, value in os.environ.items() if key != "SHOAL_KUBECONFIG"}
    variables |= {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SHOAL_DEMO_CHART": str(chart),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [ROOT / "examples" / "demo" / "run.sh"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=variables,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No cluster can be had here" in done.stdout
    assert "asyncio.base_events" in done.stdout
    assert done.stderr == ""
    assert chart.read_bytes().startswith(b"\x89PNG")
