"""The wheel, installed in a clean environment outside the checkout, works against the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import asyncio
import shoal

async def main():
    host = shoal.Kubernetes()
    print(await shoal.run_function(lambda: 6 * 7, host))
    print(await shoal.run_map(lambda n: n ** 2, [1, 2, 3, 4], host))

if __name__ == "__main__":
    print(shoal.__file__)
    asyncio.run(main())
"""


def run(*words: str, cwd: Path, **more: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=cwd, env={**environment, **more}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_wheel_works_from_a_clean_environment(tmp_path: Path) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    run(uv, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist"), cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    run(uv, "pip", "install", "--quiet", "--python", python, str(wheel), cwd=tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "main.py").write_text(SCRIPT)
    lines = run(python, "main.py", cwd=project).splitlines()
    assert lines[0].startswith(str(tmp_path / "venv"))
    assert lines[1:] == ["42", "[1, 4, 9, 16]"]
