"""What an environment.yml, an explicit list or a conda environment tells a builder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal.conda_files import of_file
from shoal.conda_prefixes import find
from shoal.errors import ConfigurationError
from shoal.machinery import Call
from shoal.manifests import manifest
from shoal.packages import INDEX_VARIABLE, Packages, packages_of
from shoal.worker.conda_file import CondaPackages, python_version

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
EXPORTED = """
name: work
channels:
  - conda-forge
  - nodefaults
  - https://conda.example.com/team
dependencies:
  - python=3.12.4
  - numpy=2.1.*   # a comment
  - pip
  - pip:
    - six==1.17.0
    - --extra-index-url https://pip.example.com/simple/
variables:
  OMP_NUM_THREADS: 2
prefix: /home/somebody/conda/envs/work
"""
FORGE = "https://conda.example.com/forge"
LISTED = f"""
# This file may be used to create an environment using:
# platform: linux-64
@EXPLICIT
{FORGE}/linux-64/python-3.12.4-h194c7f8_0_cpython.conda#d73490214f536cccb5819e9873048c92
{FORGE}/noarch/tzdata-2024a-h0c530f3_0.tar.bz2
{FORGE}/linux-64/zlib-1.3-h1_1.conda#sha256:{"0a" * 32}
"""


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (INDEX_VARIABLE, "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_EXE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS", "MAMBA_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", os.defpath)


def read(folder: Path, text: str, **how: Any) -> CondaPackages:
    path = folder / "environment.yml"
    path.write_text(text)
    return of_file(path, **how)


def refused(folder: Path, text: str, **how: Any) -> str:
    with pytest.raises(ConfigurationError) as told:
        read(folder, text, **how)
    return str(told.value)


def dependencies(*lines: str) -> str:
    return "\n".join(["channels: [forge]", "dependencies:", *(f"- {line}" for line in lines)])


def test_an_exported_environment(tmp_path: Path) -> None:
    assert read(tmp_path, EXPORTED) == CondaPackages(
        channels=("conda-forge", "https://conda.example.com/team"),
        packages=("python=3.12.4", "numpy=2.1.*", "pip"),
        requirements=("six==1.17.0", "--extra-index-url https://pip.example.com/simple/"),
        python="3.12.4",
        variables={"OMP_NUM_THREADS": "2"},
    )
    assert read(tmp_path, EXPORTED, file_format="env_export").python == "3.12.4"


def test_the_examples_file() -> None:
    found = of_file(Path(__file__).parents[3] / "examples" / "environment.yml")
    assert (found.python, found.requirements) == ("3.11", ("six==1.17.0",))


def test_an_explicit_list(tmp_path: Path) -> None:
    for how in ({}, {"file_format": "list"}):
        found = read(tmp_path, LISTED, **how)
        assert found.python == "3.12.4"
        assert found.channels == found.packages == ()
        assert [url.rpartition("/")[2] for url in found.explicit] == [
            "python-3.12.4-h194c7f8_0_cpython.conda#d73490214f536cccb5819e9873048c92",
            "tzdata-2024a-h0c530f3_0.tar.bz2",
            f"zlib-1.3-h1_1.conda#sha256:{'0a' * 32}",
        ]


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        ("python=3.11", "3.11"),
        ("python==3.11.4", "3.11.4"),
        ("python=3.11.*", "3.11"),
        ("python 3.11.4", "3.11.4"),
        ("python ==3.11.4", "3.11.4"),
        ("python 3.11.* *_cpython", "3.11"),
        ("python=3.11.4=h123_0_cpython", "3.11.4"),
        ("conda-forge::python=3.11", "3.11"),
        ("python", ""),
        ("python>=3.11", ""),
        ("python>=3.11,<3.13", ""),
        ("python=3.11|3.12", ""),
        ("python-dateutil=2.9", ""),
        ("ipython=3.2", ""),
    ],
)
def test_the_version_of_python_that_a_spec_names(spec: str, version: str) -> None:
    assert python_version(spec) == version


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dependencies: [", "is no YAML"),
        ("numpy=1.26=py311_0\n", "is neither an environment.yml nor an explicit list"),
        ("- python\n", "is neither an environment.yml nor an explicit list"),
        ("channels: [forge]\n", "dependencies names no conda package"),
        ("channels: [forge]\ndependencies: python\n", "dependencies must be a list"),
        ("channels: forge\ndependencies: [python]\n", "channels must be a list"),
        ("dependencies: [python]\n", "names no channels"),
        ("channels: [nodefaults]\ndependencies: [python]\n", "names no channels"),
        ("channel: [forge]\ndependencies: [python]\n", "channel: an environment.yml has name,"),
        (dependencies("pip: [six]"), "shoal.PipRequirementsFile"),
        (dependencies("python", "npm: [left]"), "{'npm': ['left']} is no text"),
        (dependencies("python", "3.12"), "3.12 is no text: put it into quotes"),
        (dependencies("python", "pip: [-e .]"), "is on this machine only"),
        (dependencies("python", "pip: [./here]"), "Deployment.mirror_local brings your code"),
        (dependencies("python", "pip: six"), "dependencies: pip must be a list"),
        ("channels: ['file:///c']\ndependencies: [python]\n", "is on this machine only"),
        ("channels: [/opt/c]\ndependencies: [python]\n", "is on this machine only"),
        ("channels: ['C:\\c']\ndependencies: [python]\n", "is on this machine only"),
        ("channels: ['https://a:b@host/c']\ndependencies: [python]\n", "has a password or a token"),
        ("channels: ['https://host/t/x-1/c']\ndependencies: [python]\n", "password or a token"),
        (dependencies("python") + "\nvariables: [A]\n", "variables must be names with"),
        (
            dependencies("python=3.12.4=h99_0") + "\nprefix: /Users/me/envs/x\n",
            "python=3.12.4=h99_0 is a build for the machine that has /Users/me/envs/x",
        ),
        (dependencies("python=3.12.4=h99_0") + "\nprefix: C:\\envs\\x\n", "--from-history"),
    ],
)
def test_files_that_can_not_be_carried_out(tmp_path: Path, text: str, words: str) -> None:
    told = refused(tmp_path, text)
    assert words in told
    assert str(tmp_path / "environment.yml") in told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{FORGE}/osx-arm64/zlib-1.3-h1_1.conda", "zlib-1.3-h1_1 is for osx-arm64, and the"),
        (f"{FORGE}/win-64/zlib-1.3-h1_1.conda", "make the list on Linux, or write an environ"),
        ("zlib=1.3", "'zlib=1.3' is no URL of a package"),
        ("file:///c/linux-64/zlib-1.3-h1_1.conda", "is no URL of a package"),
        ("https://a:b@host/c/linux-64/zlib-1.3-h1_1.conda", "zlib-1.3-h1_1 has a password"),
        ("https://host/t/tk/c/linux-64/zlib-1.3-h1_1.conda", "has a password or a token"),
    ],
)
def test_lists_that_can_not_be_carried_out(tmp_path: Path, line: str, words: str) -> None:
    assert words in refused(tmp_path, LISTED + line + "\n")


def test_an_explicit_list_without_python(tmp_path: Path) -> None:
    text = f"@EXPLICIT\n{FORGE}/noarch/python-dateutil-2.9-pyhd8.conda\n"
    assert "none of the packages is python" in refused(tmp_path, text)


def test_what_is_no_file_and_no_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"not-there\.yml: No such file"):
        of_file(tmp_path / "not-there.yml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is no text"):
        of_file(tmp_path / "binary")
    assert "no line @EXPLICIT" in refused(tmp_path, EXPORTED, file_format="list")
    assert "file_format is 'list'" in refused(tmp_path, LISTED, file_format="env_export")
    with pytest.raises(ConfigurationError, match="file_format must be 'env_export' or 'list'"):
        shoal.CondaEnvironmentFile("x", "yaml")  # type: ignore[arg-type]


async def test_the_manifest_names_what_is_to_be_installed(tmp_path: Path) -> None:
    """The image is the one for this Python: the environment brings its own."""
    (tmp_path / "environment.yml").write_text(EXPORTED)
    chosen = shoal.CondaEnvironmentFile(
        str(tmp_path / "environment.yml"), additional_software="libgomp1"
    )
    call = Call(
        kind="function",
        function="builtins.len",
        args=[[]],
        deployment=shoal.Deployment(chosen, environment_variables={"OMP_NUM_THREADS": "4"}),
    )
    assert manifest(call).to_dict()["spec"]["deployment"] == {
        "python": HERE,
        "environment": {
            "requirements": ["six==1.17.0", "--extra-index-url https://pip.example.com/simple/"],
            "software": ["libgomp1"],
            "conda": {
                "channels": ["conda-forge", "https://conda.example.com/team"],
                "packages": ["python=3.12.4", "numpy=2.1.*", "pip"],
            },
        },
        "environmentVariables": [{"name": "OMP_NUM_THREADS", "value": "4"}],
    }


@pytest.mark.parametrize("version", ["", f"={HERE}.1", f"={HERE}"])
def test_a_function_is_pickled_for_a_python_that_may_be_the_same(
    tmp_path: Path, version: str
) -> None:
    path = tmp_path / "environment.yml"
    path.write_text(f"channels: [forge]\ndependencies: [python{version}]\n")
    chosen = shoal.CondaEnvironmentFile(str(path))
    call = Call(kind="function", function=len, args=[[]], deployment=shoal.Deployment(chosen))
    manifest(call)
    path.write_text("channels: [forge]\ndependencies: [python=3.9.1]\n")
    with pytest.raises(
        ConfigurationError, match=r"the conda environment's python is 3\.9, this is"
    ):
        manifest(call)


class Prefix:
    """A conda environment, as far as it is read."""

    def __init__(self, path: Path, *, platform: str = "linux-64") -> None:
        self.path, self.platform = path, platform
        (path / "conda-meta").mkdir(parents=True)
        (path / "conda-meta" / "history").write_text("==> now <==\n")
        self.add("python", "3.12.4", requested_spec="python=3.12")

    def add(self, name: str, version: str, subdir: str = "", **more: Any) -> None:
        subdir = subdir or self.platform
        url = f"{FORGE}/{subdir}/{name}-{version}-0.conda"
        record = {"name": name, "version": version, "subdir": subdir, "url": url, **more}
        (self.path / "conda-meta" / f"{name}-{version}-0.json").write_text(json.dumps(record))

    def pip(self, name: str, version: str, direct: Any = None, by: str = "pip") -> None:
        site = self.path / "lib" / "python3.12" / "site-packages"
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "INSTALLER").write_text(by + "\n")
        if direct:
            (info / "direct_url.json").write_text(json.dumps(direct))

    def packages(self) -> Packages:
        found = packages_of(shoal.LocalCondaInterpreter(str(self.path)))
        assert found is not None
        assert found.conda is not None
        return found


def test_a_conda_environment_of_this_machine(tmp_path: Path) -> None:
    prefix = Prefix(tmp_path / "work")
    file = "lib/python3.12/site-packages/owned-1.0.dist-info/METADATA"
    prefix.add("owned", "1.0", "noarch", files=[file])
    prefix.add("mkl", "2024.1", url="https://conda.example.com/main/linux-64/mkl-2024.1-0.conda")
    prefix.pip("six", "1.17.0")
    prefix.pip("tqdm", "4.67", by="uv")
    prefix.pip("numpy", "2.1.0", by="conda")
    prefix.pip("owned", "1.0", by="")
    prefix.pip("mine", "0.1", {"url": "file:///home/me", "dir_info": {"editable": True}})
    prefix.pip("theirs", "0.2", {"url": "https://g.example/r", "vcs_info": VCS})
    found = prefix.packages()
    assert found.conda is not None
    assert found.conda.channels == (FORGE, "https://conda.example.com/main")
    assert found.conda.packages == ("mkl==2024.1", "owned==1.0", "python==3.12.4")
    assert found.python == "3.12.4"
    assert found.requirements == (
        "six==1.17.0",
        "theirs @ git+https://g.example/r@abc",
        "tqdm==4.67",
    )


VCS = {"vcs": "git", "commit_id": "abc"}


def test_of_an_environment_for_another_platform_what_was_asked_for(tmp_path: Path) -> None:
    prefix = Prefix(tmp_path / "work", platform="osx-arm64")
    prefix.add("libcxx", "18.1")
    prefix.add("appnope", "0.1", "noarch")
    with pytest.raises(ConfigurationError, match=r"is for osx-arm64.*--from-history"):
        prefix.packages()
    prefix.add("numpy", "2.1.0", requested_specs=["numpy >=2"])
    found = prefix.packages()
    assert found.conda is not None
    assert found.conda.packages == ("numpy==2.1.0", "python==3.12.4")
    assert found.conda.channels == (FORGE,)


def test_what_an_environment_has_from_this_machine_only(tmp_path: Path) -> None:
    prefix = Prefix(tmp_path / "a")
    prefix.add("own", "1.0", url="file:///home/me/linux-64/own-1.0-0.conda")
    with pytest.raises(ConfigurationError, match=r"own 1\.0 in .* was installed from file:///home"):
        prefix.packages()
    prefix = Prefix(tmp_path / "b")
    prefix.add("own", "1.0", url="https://host/t/tk-1/c/linux-64/own-1.0-0.conda")
    with pytest.raises(ConfigurationError, match="its URL has a password or a token") as told:
        prefix.packages()
    assert "tk-1" not in str(told.value)
    prefix = Prefix(tmp_path / "c")
    prefix.pip("own", "1.0", {"url": "file:///home/me/own.whl"})
    with pytest.raises(ConfigurationError, match=r"LocalCondaInterpreter: own 1\.0 was installed"):
        prefix.packages()
    prefix = Prefix(tmp_path / "d")
    (prefix.path / "conda-meta" / "python-3.12.4-0.json").write_text("{")
    with pytest.raises(ConfigurationError, match="can't be read"):
        prefix.packages()
    (prefix.path / "conda-meta" / "python-3.12.4-0.json").unlink()
    with pytest.raises(ConfigurationError, match="has no package python"):
        prefix.packages()


def test_an_environment_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = Prefix(tmp_path / "conda").path, Prefix(tmp_path / "far" / "distant").path
    work = Prefix(root / "envs" / "work").path
    with pytest.raises(ConfigurationError, match="there is no conda environment 'work'"):
        find("work")
    with pytest.raises(ConfigurationError, match="has no conda-meta"):
        find(str(tmp_path / "far"))
    with monkeypatch.context() as patched:
        patched.setenv("CONDA_PREFIX", str(root))
        assert (find("base"), find("work")) == (root, work)
        patched.setenv("CONDA_PREFIX", str(work))
        assert (find("base"), find("work")) == (root, work)
        patched.setenv("CONDA_DEFAULT_ENV", "other")
        assert find("other") == work
    with monkeypatch.context() as patched:
        patched.setenv("CONDA_ENVS_PATH", os.pathsep.join(["/nowhere", str(tmp_path / "far")]))
        assert find("distant") == elsewhere
    with monkeypatch.context() as patched:
        (root / "bin").mkdir()
        (root / "bin" / "conda").write_text("#!/bin/sh\n")
        (root / "bin" / "conda").chmod(0o755)
        patched.setenv("PATH", str(root / "bin"))
        assert (find("base"), find("work")) == (root, work)
    known = tmp_path / "home" / ".conda"
    known.mkdir(parents=True)
    (known / "environments.txt").write_text(f"/nowhere\n{elsewhere}\n")
    assert find("distant") == elsewhere
    monkeypatch.chdir(tmp_path)
    assert find("far/distant") == elsewhere
