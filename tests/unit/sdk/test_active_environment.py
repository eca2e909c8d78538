"""What a job without a deployment brings along: what is installed here, less what Shoal needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shoal
from shoal import active
from shoal.errors import ConfigurationError
from shoal.packages import Packages, packages_of

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package's metadata where this Python finds installed ones, in place of its own."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(active, "folders", lambda: (str(folder),))
    monkeypatch.delenv(active.SWITCH, raising=False)
    monkeypatch.chdir(tmp_path)

    def made(
        name: str,
        version: str = "1.0",
        *needs: str,
        requested: bool = False,
        origin: object = None,
        by: str = "pip",
    ) -> None:
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {need}" for need in needs]
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "INSTALLER").write_text(f"{by}\n")
        if requested:
            (info / "REQUESTED").write_text("")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))

    return made


def test_a_fresh_install_of_shoal_brings_nothing(install: Install) -> None:
    install("shoal", "0.1.0", "aiohttp", "pydantic", requested=True)
    install("aiohttp", "3.14", "yarl")
    install("yarl")
    install("pydantic")
    install("pip", "25.0")
    assert packages_of(shoal.ActiveEnvironment()) is None


def test_uv_calls_everything_requested(install: Install) -> None:
    install("shoal", "0.1.0", "aiohttp", requested=True, by="uv")
    install("aiohttp", "3.14", requested=True, by="uv")
    install("six", requested=True, by="uv")
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None and found.requirements == ("six==1.0",)


def test_what_the_user_installed_comes_with_what_it_needs(install: Install) -> None:
    install("shoal", "0.1.0", "pydantic", "tqdm", requested=True)
    install("pydantic", "2.12", "typing_extensions>=4")
    install("typing-extensions", "4.15")
    install("tqdm", "4.67", requested=True)
    install("Pandas", "2.3", "numpy", "pydantic; extra == 'all'", requested=True)
    install("numpy", "2.3.1")
    install("orphan", "3")
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None
    assert [line.partition("==")[0].lower() for line in found.requirements] == [
        "numpy",
        "orphan",  # nobody needs it: the user's own wish
        "pandas",
        "pydantic",
        "tqdm",
        "typing-extensions",
    ]
    assert "Pandas==2.3" in found.requirements
    assert found.python == "{}.{}".format(*sys.version_info[:2])


def test_what_another_platform_needs_stays_here(install: Install) -> None:
    install("shoal", "0.1.0", "colorama", requested=True)
    install("click", "8.2", "colorama; sys_platform == 'win32'", requested=True)
    install("colorama")
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None and found.requirements == ("click==8.2",)


def test_what_this_machine_alone_has_is_named(install: Install, tmp_path: Path) -> None:
    install("local", origin={"url": "file:///wheels/local.whl", "archive_info": {}})
    with pytest.raises(ConfigurationError, match=r"local 1.0 was installed from file:.*false"):
        packages_of(shoal.ActiveEnvironment())


def test_a_project_installed_in_place_is_code(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = {"url": (tmp_path / "my project").as_uri(), "dir_info": {"editable": True}}
    install("mine", "1.0", "six", origin=origin)
    install("six", "1.17")
    with pytest.raises(ConfigurationError, match=r"in place from .*my project.*sys\.path"):
        packages_of(shoal.ActiveEnvironment())
    monkeypatch.syspath_prepend(str(tmp_path / "my project" / "src"))
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None and found.requirements == ("six==1.17",)


def test_packages_of_git_keep_their_commit(install: Install) -> None:
    origin = {"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    install("forked", origin=origin)
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None and found.requirements == ("forked @ git+https://x/y@abc",)


def test_it_is_read_once_until_something_is_installed(install: Install, tmp_path: Path) -> None:
    install("one", requested=True)
    first = packages_of(shoal.ActiveEnvironment())
    read = active._kept.cache_info().misses
    assert packages_of(shoal.ActiveEnvironment()) == first
    assert active._kept.cache_info().misses == read
    install("two", requested=True)
    os.utime(tmp_path / "site-packages", ns=(1, 1))
    again = packages_of(shoal.ActiveEnvironment())
    assert again is not None and again.requirements == ("one==1.0", "two==1.0")


def test_a_lock_says_it_for_its_project(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("developer-tool", requested=True)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "poetry.lock").write_text(
        '[[package]]\nname = "tone"\nversion = "2.0"\noptional = false\ngroups = ["main"]\n'
        'files = []\n[metadata]\nlock-version = "2.1"\n'
    )
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None and found.requirements == ("tone==2.0",)


def test_a_lock_of_another_project_does_not(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", requested=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "My_App"\n')
    (tmp_path / "poetry.lock").write_text("")  # nor one that can't be read
    for prefix in ("elsewhere", "my_app-abcdEFGH-py3.11"):
        monkeypatch.setattr(sys, "prefix", str(tmp_path / prefix))
        found = packages_of(shoal.ActiveEnvironment())
        assert found is not None and found.requirements == ("one==1.0",)


def test_where_packages_are_found_first_is_where_they_are_imported_from(tmp_path: Path) -> None:
    """A virtual environment does not see the user's own folder, and comes before the system's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    user = tmp_path / "home" / ".local" / "lib" / site.parent.name / "site-packages"
    system = tmp_path / "system" / "dist-packages"
    for folder, version in ((site, "2.0"), (user, "1.0"), (system, "3.0")):
        info = folder / f"num-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: num\nVersion: {version}\n")
    (site / "system.pth").write_text(f"{system}\n")
    elsewhere = [str(path) for path in map(Path, sys.path) if (path / "packaging").is_dir()]
    code = "import sys; sys.path += sys.argv[1:]; from shoal import active; "
    code += "print([line for line in active.requirements() if line.startswith('num=')])"
    source = str(Path(shoal.__file__).parents[1])
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", code, source, *elsewhere],
        env={"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['num==2.0']\n"


def test_conda_and_pip_each_have_their_own(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conda-meta").mkdir()
    for name, files in (("python", []), ("numpy", ["site-packages/numpy-1.0.dist-info/METADATA"])):
        url = f"https://conda.example.com/forge/linux-64/{name}-1.0-0.conda"
        record = {"name": name, "version": "3.11.4" if name == "python" else "1.0", "url": url}
        record |= {"subdir": "linux-64", "files": files}
        (tmp_path / "conda-meta" / f"{name}.json").write_text(json.dumps(record))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    folder = tmp_path / "lib" / "python3.11"
    folder.mkdir(parents=True)
    (folder / "site-packages").symlink_to(tmp_path / "site-packages")
    install("shoal", "0.1.0", "aiohttp", requested=True)
    install("aiohttp")
    install("numpy", origin={"url": "file:///home/conda/feedstock_root", "dir_info": {}})
    install("six", requested=True)
    found = packages_of(shoal.ActiveEnvironment())
    assert found is not None and found.conda is not None
    assert found.requirements == ("six==1.0",)
    assert any(package.startswith("numpy") for package in found.conda.packages)


@pytest.mark.parametrize("value", ["false", "0", "False"])
def test_it_can_be_switched_off(
    install: Install, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install("one", requested=True)
    monkeypatch.setenv(active.SWITCH, value)
    assert packages_of(shoal.ActiveEnvironment()) is None
    monkeypatch.setenv(active.SWITCH, "maybe")
    with pytest.raises(ConfigurationError, match="SHOAL_MIRROR_ENVIRONMENT must be true or false"):
        packages_of(shoal.ActiveEnvironment())


async def test_it_is_the_default_and_that_of_mirror_local(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", requested=True)
    for deployment in (None, shoal.Deployment.mirror_local(include_sys_path=False)):
        made = await shoal.run_command("x", shoal.Local(), None, deployment, dry_run=True)
        assert made is not None and made.spec.deployment is not None
        assert made.spec.deployment.to_dict()["environment"] == {"requirements": ["one==1.0"]}
    made = await shoal.run_command("x", shoal.Local(), None, shoal.Deployment(), dry_run=True)
    assert made is not None and made.spec.deployment is not None
    assert "environment" not in made.spec.deployment.to_dict()
    assert packages_of(shoal.ActiveEnvironment()) == Packages(
        ("one==1.0",), "{}.{}".format(*sys.version_info[:2])
    )
