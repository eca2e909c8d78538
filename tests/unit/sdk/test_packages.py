"""What an interpreter of this machine tells a builder in the cluster to install."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal.errors import ConfigurationError
from shoal.machinery import Call
from shoal.manifests import manifest
from shoal.packages import INDEX_VARIABLE, packages_of

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INDEX_VARIABLE, raising=False)


def lines_of(folder: Path, text: str) -> tuple[str, ...]:
    path = folder / "requirements.txt"
    path.write_text(text)
    found = packages_of(shoal.PipRequirementsFile(str(path), "3.12"))
    assert found is not None
    assert found.python == "3.12"
    return found.requirements


def test_a_requirements_file_is_taken_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text("six==1.17.0\n-r deeper.txt\n")
    (tmp_path / "more" / "deeper.txt").write_text("tqdm\n")
    text = (
        "# what we need\n--extra-index-url https://example.com/simple\n\n"
        "numpy == 2.3.1  # fast\n-r more/base.txt\n"
        "scipy==1.15 \\\n    --hash=sha256:abc\n"
        "tool @ git+https://example.com/tool@v1#egg=tool\n"
    )
    assert lines_of(tmp_path, text) == (
        "--extra-index-url https://example.com/simple",
        "numpy == 2.3.1",
        "six==1.17.0",
        "tqdm",
        "scipy==1.15 --hash=sha256:abc",
        "tool @ git+https://example.com/tool@v1#egg=tool",
    )


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=./x",
        "./wheels/x-1.0-py3-none-any.whl",
        "x-1.0.whl",
        "file:///tmp/x",
        "x @ file:///tmp/x.whl",
        ".",
        ".[extra]",
        "--find-links ./wheels",
        "folder/x",
        "/opt/x",
    ],
)
def test_what_is_on_this_machine_only_is_refused_by_name(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match="is on this machine only") as told:
        lines_of(tmp_path, f"numpy\n{line}\n")
    assert repr(line) in str(told.value)


@pytest.mark.parametrize(
    "line",
    [
        "https://example.com/x-1.0-py3-none-any.whl",
        "x @ https://example.com/x-1.0.tar.gz",
        "tool @ git+ssh://git@example.com/tool@v1",
        "-f https://example.com/wheels",
        "numpy[extra]>=2,<3; python_version >= '3.11'",
        "numpy==2.3.1 " + " ".join(f"--hash=sha256:{n:064x}" for n in range(60)),
    ],
)
def test_what_an_index_or_a_server_has_is_taken(tmp_path: Path, line: str) -> None:
    assert lines_of(tmp_path, f"six\n{line}\n") == ("six", line)


@pytest.mark.parametrize(
    "line", ["--index-url https://me:secret@host/simple", "x @ git+https://me:secret@host/x"]
)
def test_passwords_stay_here(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match="has a password or a token in it") as told:
        lines_of(tmp_path, f"six\n{line}\n")
    assert "secret" not in str(told.value)


def test_files_that_do_not_help(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.txt: No such file"):
        packages_of(shoal.PipRequirementsFile(str(tmp_path / "missing.txt"), "3.12"))
    (tmp_path / "outer.txt").write_text("-r inner.txt\n")
    with pytest.raises(ConfigurationError, match=r"inner\.txt, which .*outer\.txt includes: No"):
        packages_of(shoal.PipRequirementsFile(str(tmp_path / "outer.txt"), "3.12"))
    with pytest.raises(ConfigurationError, match="names no package"):
        lines_of(tmp_path, "# nothing\n-i https://index\n")
    with pytest.raises(shoal.NotSupportedYet, match="constraints"):
        lines_of(tmp_path, "numpy\n-c constraints.txt\n")


@pytest.mark.parametrize("version", ["3", "3.8", "2.7", "3.11.x", 3.11])
def test_versions_of_python_that_no_worker_has(version: Any) -> None:
    with pytest.raises(ConfigurationError, match="python_version"):
        shoal.PipRequirementsFile("requirements.txt", version)
    with pytest.raises(ConfigurationError, match="python_version"):
        shoal.LocalPipInterpreter(sys.executable, version)


@pytest.mark.parametrize("names", ["libgomp1", ["libgomp1"], ("libgomp1",)])
def test_debian_packages(tmp_path: Path, names: Any) -> None:
    (tmp_path / "requirements.txt").write_text("numpy\n")
    path = str(tmp_path / "requirements.txt")
    for chosen in (
        shoal.PipRequirementsFile(path, "3.12", names),
        shoal.LocalPipInterpreter(sys.executable, additional_software=names),
    ):
        found = packages_of(chosen)
        assert found is not None
        assert found.software == ("libgomp1",)
    for wrong in (["--yes"], ["lib gomp"], "Lib", [3], 3, [""]):
        with pytest.raises(ConfigurationError, match=r"additional_software"):
            packages_of(shoal.PipRequirementsFile(path, "3.12", wrong))  # type: ignore[arg-type]


async def test_the_manifest_names_what_is_to_be_installed(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy==2.3.1\n")
    chosen = shoal.PipRequirementsFile(str(tmp_path / "requirements.txt"), "3.12", ["libgomp1"])
    call = Call(
        kind="function",
        function="builtins.len",
        args=[[]],
        deployment=shoal.Deployment(chosen),
    )
    with pytest.raises(ConfigurationError, match=r"python_version is 3\.12, this is Python"):
        manifest(dataclasses.replace(call, function=len))
    spec = manifest(call).to_dict()["spec"]
    assert spec["deployment"] == {
        "python": "3.12",
        "environment": {"requirements": ["numpy==2.3.1"], "software": ["libgomp1"]},
    }


async def test_an_interpreter_of_another_version_takes_functions_by_name(tmp_path: Path) -> None:
    python = tmp_path / "python"
    told = json.dumps({"python": "3.99", "found": [["tone", "1.0", {}]]})
    python.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{told}'\n")
    python.chmod(0o755)
    chosen = shoal.LocalPipInterpreter(str(python))
    call = Call(
        kind="function",
        function="tone.say",
        args=[1],
        deployment=shoal.Deployment(chosen),
    )
    assert manifest(call).to_dict()["spec"]["deployment"] == {
        "python": "3.99",
        "environment": {"requirements": ["tone==1.0"]},
    }
    with pytest.raises(ConfigurationError, match=rf"{python} is 3\.99, this is Python"):
        manifest(dataclasses.replace(call, function=len))
    with pytest.raises(shoal.errors.Unpicklable, match=r"args\[0\].*travels with its code"):
        manifest(dataclasses.replace(call, args=[lambda: 1]))


def test_what_is_installed_beside_an_interpreter(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")

    def install(name: str, version: str, direct: dict[str, Any] | None = None) -> None:
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if direct:
            (info / "direct_url.json").write_text(json.dumps(direct))

    install("Some_Tool", "1.0")
    install("pip", "24.0")
    install("mine", "0.1", {"url": "file:///home/me/mine", "dir_info": {"editable": True}})
    vcs = {"vcs": "git", "commit_id": "abc"}
    install("forked", "2", {"url": "https://example.com/forked", "vcs_info": vcs})
    install("zipped", "3", {"url": "https://example.com/z.whl", "archive_info": {}})
    found = packages_of(shoal.LocalPipInterpreter(str(python)))
    assert found is not None
    assert found.python == HERE
    assert found.requirements == (
        "forked @ git+https://example.com/forked@abc",
        "Some_Tool==1.0",
        "zipped @ https://example.com/z.whl",
    )
    assert packages_of(shoal.LocalPipInterpreter(str(python), "3.9.5")).python == "3.9.5"  # type: ignore[union-attr]
    install("local", "4", {"url": "file:///home/me/local.whl", "archive_info": {}})
    with pytest.raises(ConfigurationError, match=r"local 4 .*file:///home/me/local\.whl"):
        packages_of(shoal.LocalPipInterpreter(str(python)))


def test_interpreters_that_do_not_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no program that can be run"):
        packages_of(shoal.LocalPipInterpreter(str(tmp_path / "python")))
    for program in ("/bin/false", "/bin/ls"):
        with pytest.raises(ConfigurationError, match=f"{program} does not tell what is") as told:
            packages_of(shoal.LocalPipInterpreter(program))
        assert "metadata" not in str(told.value)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes("# grüße\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"requirements\.txt: it is no UTF-8 text"):
        packages_of(shoal.PipRequirementsFile(str(path), "3.11"))
    path.write_text("-r requirements.txt\n")
    with pytest.raises(ConfigurationError, match=r"requirements\.txt includes, includes itself"):
        packages_of(shoal.PipRequirementsFile(str(path), "3.11"))


def test_an_index_for_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INDEX_VARIABLE, "https://index.example.com/simple")
    ours = "--index-url https://index.example.com/simple"
    assert lines_of(tmp_path, "numpy\n") == (ours, "numpy")
    assert lines_of(tmp_path, "-i https://own\nnumpy\n") == ("-i https://own", "numpy")
    monkeypatch.setenv(INDEX_VARIABLE, "https://me:secret@index.example.com/simple")
    with pytest.raises(ConfigurationError, match="has a password or a token in it") as told:
        lines_of(tmp_path, "numpy\n")
    assert "secret" not in str(told.value)


POETRY = """
[[package]]
name = "six"
version = "1.17.0"
optional = false
groups = ["main", "dev"]
files = [{file = "six-1.17.0.whl", hash = "sha256:aa"}, {file = "six.tar.gz", hash = "sha256:bb"}]

[[package]]
name = "colorama"
version = "0.4.6"
groups = ["main", "dev"]
files = []
[package.markers]
main = "sys_platform == \\"win32\\""
dev = "python_version > \\"3\\""

[[package]]
name = "forked"
version = "2"
groups = ["main"]
markers = "python_version < \\"4\\""
[package.source]
type = "git"
url = "https://example.com/forked"
reference = "main"
resolved_reference = "abc"

[[package]]
name = "pytest"
version = "9"
groups = ["dev"]

[[package]]
name = "extra"
version = "1"
optional = true
groups = ["main"]

[metadata]
lock-version = "2.1"
"""


def test_a_poetry_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poetry.lock").write_text(POETRY)
    expected = (
        "six==1.17.0 --hash=sha256:aa --hash=sha256:bb",
        'colorama==0.4.6 ; sys_platform == "win32"',
        'forked @ git+https://example.com/forked@abc ; python_version < "4"',
    )
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path), "", "."):
        found = packages_of(shoal.PoetryProjectPath(path, "3.12", "libgomp1"))
        assert found is not None
        assert (found.requirements, found.python, found.software) == (
            expected,
            "3.12",
            ("libgomp1",),
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('lock-version = "2.1"', 'lock-version = "2.0"'), "lock-version 2.0"),
        (('type = "git"', 'type = "directory"'), "forked is in .* a local folder"),
        (
            ("https://example.com/forked", "https://me:secret@host/forked"),
            "has a password or a token in it",
        ),
        (("[[package]]", "[[package"), "poetry.lock"),
    ],
)
def test_poetry_locks_that_do_not_help(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    (tmp_path / "poetry.lock").write_text(POETRY.replace(*change))
    with pytest.raises(ConfigurationError, match=words):
        packages_of(shoal.PoetryProjectPath(str(tmp_path), "3.12"))


PYPROJECT = """
[project]
name = "mine"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["six==1.17.0"]
[dependency-groups]
dev = ["iniconfig"]
"""
UV_LOCK = """
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "iniconfig"
version = "2.1.0"
source = { registry = "https://index.example.com/simple" }
wheels = [{ url = "https://index.example.com/i.whl", hash = "sha256:cc", size = 1 }]

[[package]]
name = "mine"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "six" }]
[package.dev-dependencies]
dev = [{ name = "iniconfig" }]
[package.metadata]
requires-dist = [{ name = "six", specifier = "==1.17.0" }]
[package.metadata.requires-dev]
dev = [{ name = "iniconfig" }]

[[package]]
name = "six"
version = "1.17.0"
source = { registry = "https://index.example.com/simple" }
wheels = [{ url = "https://index.example.com/six-1.17.0-py3-none-any.whl", hash = "sha256:HASH" }]
""".replace("HASH", "ab" * 32).replace('"sha256:cc", size = 1', f'"sha256:{"cd" * 32}"')


def test_a_uv_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = shoal.UvProjectPath(str(tmp_path), "3.12")
    with pytest.raises(ConfigurationError, match="run `uv lock`"):
        packages_of(chosen)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "uv.lock").write_text(UV_LOCK.replace('"https://index.example.com/i.whl"', '"x"'))
    with pytest.raises(ConfigurationError, match="UvProjectPath"):
        packages_of(chosen)
    (tmp_path / "uv.lock").write_text(
        UV_LOCK.replace("/i.whl", "/iniconfig-2.1.0-py3-none-any.whl")
    )
    found = packages_of(chosen)
    assert found is not None
    assert found.requirements == (f"six==1.17.0 --hash=sha256:{'ab' * 32}",)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="is not on the PATH"):
        packages_of(chosen)


def test_a_script_that_names_its_dependencies(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    chosen = shoal.ScriptRequirements(str(path), "3.12")
    path.write_text(
        "#!/usr/bin/env python\n# /// script\n# requires-python = '>=3.11'\n"
        "# dependencies = [\n#   'six==1.17.0',\n#\n#   'tqdm',\n# ]\n# ///\nimport six\n"
    )
    found = packages_of(chosen)
    assert found is not None
    assert found.requirements == ("six==1.17.0", "tqdm")
    path.write_text("# /// script\n# dependencies = ['./local']\n# ///\n")
    with pytest.raises(ConfigurationError, match="on this machine only"):
        packages_of(chosen)
    path.write_text("# /// script\n# dependencies = [\n# ///\n")
    with pytest.raises(ConfigurationError, match="its header"):
        packages_of(chosen)
    path.write_text("import six\n")
    with pytest.raises(ConfigurationError, match="has no header"):
        packages_of(chosen)
    path.write_text("# /// script\n# ///\n")
    assert packages_of(chosen).requirements == ()  # type: ignore[union-attr]


async def test_local_installs_nothing(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy\n")
    chosen = shoal.PipRequirementsFile(str(tmp_path / "requirements.txt"), HERE)
    with pytest.raises(shoal.NotSupportedYet, match="installs no packages"):
        await shoal.run_function(len, shoal.Local(), None, shoal.Deployment(chosen), [[]])
    other = shoal.Deployment.preinstalled_interpreter("/opt/python")
    with pytest.raises(ConfigurationError, match="/opt/python"):
        await shoal.run_function(len, shoal.Local(), None, other, [[]])
    same = shoal.Deployment.preinstalled_interpreter(shoal.MEADOWRUN_INTERPRETER)
    assert await shoal.run_function(len, shoal.Local(), None, same, [[]]) == 0
