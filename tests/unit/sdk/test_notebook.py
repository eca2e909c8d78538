"""In a notebook: top-level `await`, `shoal.blocking`, output in its cell, and a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = (
    "import shoal\nfrom shoal import blocking\n"
    "host = shoal.Local('bucket')\nhere = shoal.Deployment()",
    "await shoal.run_function(lambda: 'awaited', host, deployment=here)",
    "blocking.run_function(lambda: 'blocked', host, deployment=here)",
    "blocking.run_function(lambda: print('printed in the Pod'), host, deployment=here)",
    "def twice(x):\n    return 2 * x\n"
    "[t.result async for t in shoal.run_map_as_completed(twice, [4], host, None, here)]",
    "blocking.run_map(twice, [1, 2], host, deployment=here)",
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    assert Path(folder, "bucket").is_dir()
    return list(notebook.cells)


def value(cell: Any) -> str | None:
    """Return what the cell evaluated to."""
    return next(
        (out["data"]["text/plain"] for out in cell.outputs if out.output_type == "execute_result"),
        None,
    )


def stream(cell: Any, name: str) -> str:
    """Return what the cell shows of stdout or stderr."""
    return "".join(out.text for out in cell.outputs if out.get("name") == name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
class TestNotebook:
    def test_top_level_await(self, cells: list[Any]) -> None:
        assert value(cells[1]) == "'awaited'"

    def test_blocking(self, cells: list[Any]) -> None:
        assert value(cells[2]) == "'blocked'"

    def test_output_stands_under_its_own_cell(self, cells: list[Any]) -> None:
        assert stream(cells[3], "stdout") == "printed in the Pod\n"
        assert "printed" not in stream(cells[2], "stdout")

    def test_async_for(self, cells: list[Any]) -> None:
        assert value(cells[4]) == "[8]"

    def test_a_map_shows_its_progress(self, cells: list[Any]) -> None:
        assert value(cells[5]) == "[2, 4]"
        shown = [out.output_type for out in cells[5].outputs]
        assert "2/2" in stream(cells[5], "stderr") or "display_data" in shown
