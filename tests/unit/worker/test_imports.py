"""The worker stands on the standard library and cloudpickle alone, in any Python from 3.9 on."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from shoal import worker

MODULES = sorted(Path(worker.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_worker_module_imports_nothing_else(path: Path) -> None:
    # a program of its own, for which the builder fetches py-rattler
    installer = {"conda.py": {"rattler"}, "conda_file.py": {"yaml"}}.get(path.name, set())
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            roots = {(node.module or "").partition(".")[0]}
        else:
            continue
        assert roots <= sys.stdlib_module_names | {"cloudpickle"} | installer, f"line {node.lineno}"
