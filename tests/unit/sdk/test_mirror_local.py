"""Which files `Deployment.mirror_local` takes, and where they stand in the code."""

from __future__ import annotations

import io
import os
import site
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal import mirror
from shoal.deployment import Deployment, MirroredCode, MirrorRequest


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write files below the test's folder; the current folder is its subfolder ``here``."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def written(*names: str, text: str = "x = 1\n") -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return written


def collect(*folders: str | Path, **changes: object) -> MirroredCode:
    arguments = {
        "include_sys_path": False,
        "additional_sys_paths": [str(folder) for folder in folders],
        **changes,
    }
    return mirror.collect(MirrorRequest.now(**arguments))  # type: ignore[arg-type]


def names(code: MirroredCode) -> list[str]:
    zips = [zipfile.ZipFile(io.BytesIO(part.archive)) for part in code.parts]
    return sorted(name for one in zips for name in one.namelist() if not name.endswith("/"))


def test_takes_python_files_of_the_current_folder(write: Callable[..., None]) -> None:
    write("here/a.py", "here/pkg/b.py", "here/pkg/c.so", "here/data.csv")
    code = collect(".")
    assert names(code) == ["0/here/a.py", "0/here/pkg/b.py", "0/here/pkg/c.so"]
    assert code.sys_paths == ("0/here",)
    assert code.working_directory == "0/here"


def test_a_folder_whose_name_begins_like_another_ones_is_not_taken_for_its_child(
    write: Callable[..., None], tmp_path: Path
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    for name in ("lib", "lib2", "lib/inner"):
        (outside / name).mkdir(parents=True, exist_ok=True)
        (outside / name / "module.py").write_text("")
    code = collect(outside / "lib", outside / "lib2", outside / "lib" / "inner")
    assert names(code) == ["1/lib/inner/module.py", "1/lib/module.py", "2/lib2/module.py"]
    assert code.sys_paths == ("1/lib", "2/lib2", "1/lib/inner")


def test_a_sibling_of_the_current_folder_stays_its_sibling(write: Callable[..., None]) -> None:
    write("here/a.py", "lib/b.py", "lib2/c.py", "lib/data.txt")
    code = collect(".", "../lib", "../lib2", globs="../lib/*.txt")
    assert names(code) == ["0/here/a.py", "0/lib/b.py", "0/lib/data.txt", "0/lib2/c.py"]
    assert code.sys_paths == ("0/here", "0/lib", "0/lib2")


def test_two_folders_of_the_same_name_do_not_clash(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    roots = [tmp_path.parent / f"{tmp_path.name}-{n}" / "src" for n in "ab"]
    for root in roots:
        root.mkdir(parents=True)
        (root / "m.py").write_text(str(root))
    assert names(collect(*roots)) == ["1/src/m.py", "2/src/m.py"]


def test_leaves_out_what_is_not_the_users_code(write: Callable[..., None]) -> None:
    write("here/a.py", "here/.git/hook.py", "here/.hidden/x.py", "here/__pycache__/a.py")
    write("here/venv/pyvenv.cfg", "here/venv/lib/x.py", "here/node_modules/x.py")
    write("here/vendored/site-packages/x.py", "here/conda/conda-meta/x.py", "here/conda/y.py")
    write("here/venvironment/kept.py")
    assert names(collect(".")) == ["0/here/a.py", "0/here/venvironment/kept.py"]


def test_the_interpreters_own_folders_stay_here(write: Callable[..., None]) -> None:
    write("here/a.py")
    code = mirror.collect(MirrorRequest.now(additional_sys_paths="."))
    assert not [path for path in code.sys_paths if "site-packages" in path]
    assert not [name for name in names(code) if name.endswith("/pydantic/__init__.py")]
    standard = os.path.dirname(os.__file__)
    assert standard in sys.path
    assert not [name for name in names(code) if name.endswith("/asyncio/__init__.py")]


def test_other_extensions(write: Callable[..., None]) -> None:
    write("here/a.py", "here/b.TXT", "here/c.csv")
    assert names(collect(".", include_sys_path_contents=".txt")) == ["0/here/b.TXT"]
    generator = (extension for extension in (".txt", ".csv"))
    assert len(names(collect(".", include_sys_path_contents=generator))) == 2
    assert names(collect(".", include_sys_path_contents=False)) == []
    with pytest.raises(ValueError, match="extensions such as"):
        collect(".", include_sys_path_contents="txt")


def test_globs(write: Callable[..., None]) -> None:
    write("here/1.txt", "here/foo/2.txt", "here/foo/deep/3.txt", "other/4.txt")
    only = {"include_sys_path_contents": False}
    assert names(collect(globs="*.txt", **only)) == ["0/here/1.txt"]
    assert len(names(collect(globs="**/*.txt", **only))) == 3
    assert names(collect(globs=["foo/**/*.txt"], **only)) == [
        "0/here/foo/2.txt",
        "0/here/foo/deep/3.txt",
    ]
    assert names(collect(globs="../other/*.txt", **only)) == ["0/other/4.txt"]
    with pytest.warns(UserWarning, match=r"'\*\.csv' matches no file"):
        collect(globs="*.csv", **only)


def test_a_glob_that_leads_outside_is_a_value_error(write: Callable[..., None]) -> None:
    outside = Path.cwd().parent.parent / "outside.txt"
    outside.write_text("x")
    with pytest.raises(ValueError, match=r"outside\.txt is neither in"):
        collect(globs="../../outside.txt")
    assert names(collect("../..", globs="../../outside.txt", include_sys_path_contents=False))


def test_without_any_folder_there_is_still_a_working_directory(write: Callable[..., None]) -> None:
    code = collect()
    assert (names(code), code.sys_paths, code.working_directory) == ([], (), "0/here")


def test_a_shoalignore_is_obeyed_but_not_by_globs(write: Callable[..., None]) -> None:
    write("here/a.py", "here/big.py", "here/deep/big.py", "here/data/x.py", "here/deep/data.py")
    write("here/deep/only/y.py", "here/other/only/z.py")
    write("here/.shoalignore", text="# what stays here\nbig.py\n\ndata/\n/deep/only\n")
    assert names(collect(".")) == ["0/here/a.py", "0/here/deep/data.py", "0/here/other/only/z.py"]
    assert "0/here/big.py" in names(collect(".", globs="big.py"))
    write("here/.shoalignore", text="!a.py\n")
    with pytest.raises(ValueError, match=r"\.shoalignore:1"):
        collect(".")


def test_the_same_files_give_the_same_digest(write: Callable[..., None], tmp_path: Path) -> None:
    write("here/a.py", "here/b.py")
    first = collect(".")
    os.utime("a.py", (0, 0))
    again = collect(".")
    assert again.parts == first.parts
    write("here/a.py", text="x = 2\n")
    assert collect(".").parts[0].sha256 != first.parts[0].sha256


def test_unchanged_files_are_not_packed_again(write: Callable[..., None]) -> None:
    write("here/a.py")
    request = MirrorRequest.now(False, ".")
    assert mirror.kept(request) is None
    code = mirror.collect(request)
    assert mirror.collect(request) is code
    assert mirror.kept(request) is code


def test_scripts_stay_executable(write: Callable[..., None]) -> None:
    write("here/run.py")
    os.chmod("run.py", 0o700)
    with zipfile.ZipFile(io.BytesIO(collect(".").parts[0].archive)) as archive:
        assert archive.getinfo("0/here/run.py").external_attr >> 16 & 0o777 == 0o755


def test_much_code_is_warned_about_with_the_largest_files(
    write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LARGE", 1000)
    Path("large.so").write_bytes(os.urandom(2000))
    with pytest.warns(UserWarning, match=r"large\.so .*\.shoalignore"):
        collect(".")


def test_how_much_is_taken_is_told(write: Callable[..., None]) -> None:
    write("here/a.py", "here/b.py", text="x" * 50_000)
    code = collect(".")
    assert (code.files, code.unpacked_size) == (2, 100_000)
    assert "code: 2 files of 0.1 MB, packed 0.0 MB in 1 part; sys.path: 0/here" in repr(code)
    assert code.summary in repr(Deployment(code=code))


def test_a_folder_around_the_current_one_has_all_of_its_files(
    write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("here/scripts/deep/run.py", "here/package/a.py", "here/scripts/b.py")
    monkeypatch.chdir(tmp_path / "here" / "scripts" / "deep")
    code = collect(".", "../..")
    assert names(code) == ["0/package/a.py", "0/scripts/b.py", "0/scripts/deep/run.py"]
    assert (code.sys_paths, code.working_directory) == (("0/scripts/deep", "0"), "0/scripts/deep")


def test_a_folder_beside_one_that_is_left_out_is_not_skipped(write: Callable[..., None]) -> None:
    write("here/a_venv/pyvenv.cfg", "here/a_venv/x.py", "here/b/y.py", "here/c_venv/pyvenv.cfg")
    write("here/d/z.py")
    assert names(collect(".")) == ["0/here/b/y.py", "0/here/d/z.py"]


def test_an_empty_entry_of_sys_path_is_the_current_folder(
    write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("here/a.py")
    monkeypatch.setattr(sys, "path", ["", "/nowhere"])
    code = mirror.collect(MirrorRequest.now())
    assert (names(code), code.sys_paths) == (["0/here/a.py"], ("0/here",))


def test_packages_of_the_user_and_of_other_environments_stay_here(
    write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "home" / "lib" / "packages"
    write("here/a.py", "home/lib/packages/b.py", "home/lib/packages/inner/c.py")
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(user))
    mirror.interpreter_folders.cache_clear()
    try:
        assert names(collect(".", user, user / "inner")) == ["0/here/a.py"]
        assert names(collect("..")) == ["0/here/a.py"]
    finally:
        mirror.interpreter_folders.cache_clear()


def test_a_link_to_a_folder_is_not_followed(write: Callable[..., None], tmp_path: Path) -> None:
    write("here/a.py", "elsewhere/b.py")
    os.symlink(tmp_path, "loop")
    os.symlink(tmp_path / "elsewhere", "linked")
    assert names(collect(".")) == ["0/here/a.py"]
    assert names(collect(".", "linked")) == ["0/elsewhere/b.py", "0/here/a.py"]
