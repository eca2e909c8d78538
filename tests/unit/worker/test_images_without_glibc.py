"""What a builder says in an image, or on a node, where the operator's uv can't run."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from shoal.worker import building, installing


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOAL_SCRATCH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_an_image_with_another_c_library_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel says of a program without its loader that there is no such file."""

    def fetch(name: str, _route: str) -> None:
        path = Path(installing._path(name))
        path.write_text("#!/lib/there-is-no-such-loader.so.2\n")
        path.chmod(0o755)

    monkeypatch.setattr(installing, "_fetch", fetch)
    with pytest.raises(building.BuildFailed, match=r"Alpine\?\): name an image with glibc"):
        building.build({"requirements": ["six"]}, platform.machine())


def test_a_node_of_another_architecture_is_refused_in_words() -> None:
    words = f"this node is {platform.machine()}, the operator's node is other"
    with pytest.raises(building.BuildFailed, match=words):
        building.build({"requirements": ["six"]}, "other")
