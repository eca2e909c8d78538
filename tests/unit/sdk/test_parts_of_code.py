"""Which file is in which part of the user's code, and what is packed anew."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path

import pytest

from shoal import code_parts, mirror
from shoal.code_parts import MOST_ALONE, MOST_SHARED, PART, Entry, Group, cut
from shoal.deployment import MirroredCode, MirrorRequest


def entries(*sizes: int, start: int = 0) -> list[Entry]:
    return [Entry(f"0/here/m{start + n}.py", "x", size=size) for n, size in enumerate(sizes)]


def parts_of(files: list[Entry]) -> dict[str, Group]:
    groups = cut(files)
    assert sorted(file for group in groups for file in group) == sorted(files)
    assert all(groups)
    return {file.name: group for group in groups for file in group}


@pytest.mark.parametrize("sizes", [(), (0,), (PART,), (1000,) * 1000])
def test_little_code_is_one_part(sizes: tuple[int, ...]) -> None:
    folder = Entry("0/here/", "")
    assert cut([folder, *entries(*sizes)]) == [(folder, *entries(*sizes))]


def test_a_file_stays_in_its_part_when_others_come_and_go() -> None:
    files = entries(*[20_000] * 300)
    before = {name: {file.name for file in group} for name, group in parts_of(files).items()}
    new = Entry("0/here/new.py", "x", size=10)
    after = {name: {file.name for file in group} for name, group in parts_of([*files, new]).items()}
    assert len({frozenset(names) for names in before.values()}) == 8
    changed = [name for name, names in before.items() if after[name] != names]
    assert 0 < len(changed) < 2 * len(files) / 8
    assert all(after[name] - before[name] == {new.name} for name in changed)


def test_a_large_file_is_a_part_of_its_own() -> None:
    large = Entry("0/here/large.so", "x", size=5 * PART)
    parts = parts_of([large, *entries(1000, 1000)])
    assert parts["0/here/large.so"] == (large,)
    assert parts["0/here/m0.py"] == parts["0/here/m1.py"]


@pytest.mark.parametrize("size", [100, 50_000, PART, 3 * PART])
@pytest.mark.parametrize("count", [1000, 20_000])
def test_there_are_never_more_parts_than_a_resource_may_name(size: int, count: int) -> None:
    sizes = random.Random(size).choices(range(size // 2, 3 * size), k=count)
    assert len(cut(entries(*sizes))) <= MOST_SHARED + MOST_ALONE == 64


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with 40 files of 100 kB."""
    folder = tmp_path / "here"
    folder.mkdir()
    noise = random.Random(0)
    for number in range(40):
        (folder / f"m{number}.py").write_bytes(noise.randbytes(100_000))
    monkeypatch.chdir(folder)
    return folder


def collect() -> MirroredCode:
    return mirror.collect(MirrorRequest.now(False, "."))


def test_the_parts_together_are_the_tree(tree: Path) -> None:
    code = collect()
    assert len(code.parts) == 4
    found = {}
    for part in code.parts:
        with zipfile.ZipFile(io.BytesIO(part.archive)) as archive:
            found |= {name: archive.read(name) for name in archive.namelist()}
    assert found.pop("0/here/") == b""
    assert found == {f"0/here/{path.name}": path.read_bytes() for path in tree.iterdir()}
    assert (code.files, code.unpacked_size) == (40, 4_000_000)


def test_a_changed_file_changes_one_part_and_only_that_is_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = collect()
    read: list[Group] = []
    pack = code_parts._pack
    monkeypatch.setattr(code_parts, "_pack", lambda group: read.append(group) or pack(group))
    (tree / "m7.py").write_text("changed")
    after = collect()
    changed = set(after.parts) - set(before.parts)
    assert (len(changed), len(after.parts)) == (1, len(before.parts))
    assert len(read) == 1
    assert "0/here/m7.py" in [entry.name for entry in read[0]]
    assert collect() is after


@pytest.mark.parametrize("change", ["mtime", "mode", "size"])
def test_what_tells_that_a_file_has_changed(tree: Path, change: str) -> None:
    before, path = collect(), tree / "m7.py"
    stat = path.stat()
    if change == "mode":
        path.chmod(0o755)
    else:
        data = path.read_bytes()
        path.write_bytes(b"x" + data[1:] if change == "mtime" else data + b"x")
        later = stat.st_mtime_ns + (change == "mtime")
        os.utime(path, ns=(later, later))
    assert len(set(collect().parts) - set(before.parts)) == 1
