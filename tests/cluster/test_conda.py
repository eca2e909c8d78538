"""Conda environments: solved and installed in a builder Pod, entered by every worker.

The channels are the namespace's own. `tones` has packages made here; `pythons` has a `python` that
the serving Pod makes of its image's (see `conda_channel.python`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import conda_channel
import package_index
import pytest
from conda_channel import SUBDIR, package
from git_server import GitServer, secret
from namespaces import Place, condition
from package_index import FROM_FOLDER, serve, wheel

import shoal
from shoal.errors import EnvironmentFailed

cloudpickle.register_pickle_by_value(sys.modules[__name__])

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = f"docker.io/library/python:{PYTHON}-slim"
PYTHONS = f"{Path(conda_channel.__file__).read_text()}\n{FROM_FOLDER}"
PYTHONS += "files.update(channel('pythons', python()))\n"
TONE = b"TONE = '%s'\n"
RING = b'export BELL_SOUND="$(cat "$CONDA_PREFIX/share/bell.txt")"\n'
BELL = {
    "bin/bell": b"#!/bin/sh\necho the bell says $BELL_SOUND, $BELL_SIZE\n",
    "share/bell.txt": f"ding of {conda_channel.PLACEHOLDER}\n".encode(),
    "etc/conda/activate.d/bell.sh": RING,
    "etc/conda/env_vars.d/bell.json": b'{"BELL_SIZE": "small"}',
}
SOFT = package("tone", "1.0", {"site-packages/tone.py": TONE % b"softly"}, needs=("python",))
LOUD = package("tone", "2.0", {"site-packages/tone.py": TONE % b"loudly"}, needs=("python",))
TONES = conda_channel.channel(
    "tones",
    SOFT,
    LOUD,
    package("greeting", "1.0", {"site-packages/greeting.py": b""}, needs=("tone >=2",)),
    package("bell", "1.0", BELL, subdir=SUBDIR),
)
WHEELS = dict([wheel("chime", "1.0", {"chime.py": "import tone\nCHIME = tone.TONE\n"})])


@pytest.fixture
async def channels(user: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The namespace's own channels; pip's packages come from its own index."""
    index = await serve(user, {**TONES, **WHEELS}, IMAGE, files=PYTHONS)
    monkeypatch.setenv("SHOAL_PACKAGE_INDEX", index)
    return [package_index.channel(user.namespace, name) for name in ("tones", "pythons")]


def written(folder: Path, channels: list[str], *dependencies: object) -> shoal.Deployment:
    """A Deployment with an environment.yml; JSON is YAML."""
    path = folder / "environment.yml"
    content = {"name": "x", "channels": channels, "dependencies": list(dependencies)}
    path.write_text(json.dumps(content))
    return shoal.Deployment(shoal.CondaEnvironmentFile(str(path)))


def tone() -> str:
    import tone as module

    return str(module.TONE)


def about() -> dict[str, str]:
    import os
    import sys
    import sysconfig

    import tone

    return {
        "tone": tone.TONE,
        "file": tone.__file__ or "",
        "executable": sys.executable,
        "library": sysconfig.get_path("stdlib"),
        "prefix": os.environ["CONDA_PREFIX"],
    }


async def test_pinned_versions_under_the_environments_own_python(
    user: Place, channels: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = written(tmp_path, channels, f"python={PYTHON}", "tone=1.0", "bell")
    home = "/shoal/environment"
    assert await shoal.run_function(about, user.host(), None, here) == {
        "tone": "softly",
        "file": f"{home}/lib/python{PYTHON}/site-packages/tone.py",
        "executable": f"{home}/bin/python",
        "library": f"{home}/opt/python/lib/python{PYTHON}",
        "prefix": home,
    }
    shown = capsys.readouterr().err  # who waits sees what is done
    assert "+ tone=1.0=0" in shown
    assert "__glibc=" in shown
    tones = await shoal.run_map(lambda n: (n, tone()), [1, 2], user.host(), None, here)
    assert tones == [(1, "softly"), (2, "softly")]
    await shoal.run_command("bell", user.host(), None, here)
    assert f"the bell says ding of {home}, small" in capsys.readouterr().out


async def test_what_pip_installs_beside_them(
    user: Place, channels: list[str], tmp_path: Path
) -> None:
    here = written(tmp_path, channels, "python", "greeting", {"pip": ["chime==1.0"]})

    def chime() -> str:
        import chime as module

        return str(module.CHIME)

    assert await shoal.run_function(chime, user.host(), None, here) == "loudly"


async def test_an_explicit_list(user: Place, channels: list[str], tmp_path: Path) -> None:
    tones, pythons = channels
    version = await python_in(user, pythons, tmp_path)
    path = tmp_path / "list.txt"

    def listed(digest: str) -> shoal.Deployment:
        path.write_text(
            f"# platform: {SUBDIR}\n@EXPLICIT\n{pythons}/{SUBDIR}/python-{version}-0.tar.bz2\n"
            f"{tones}/noarch/{SOFT.file}#{digest}\n"
        )
        return shoal.Deployment(shoal.CondaEnvironmentFile(str(path)))

    right = hashlib.md5(SOFT.data).hexdigest()
    assert await shoal.run_function(tone, user.host(), None, listed(right)) == "softly"
    wrong = hashlib.md5(LOUD.data).hexdigest()
    with pytest.raises(EnvironmentFailed, match=f"has md5 {right}, the list says {wrong}"):
        await shoal.run_function(tone, user.host(), None, listed(wrong))


async def test_a_file_of_a_git_repository(
    user: Place, channels: list[str], git: GitServer, tools: None
) -> None:
    file = {
        "channels": channels,
        "dependencies": ["python", "tone=1.0", {"pip": ["chime==1.0"]}],
        "variables": {"MOOD": "gay"},
    }
    code = "import chime, os\ndef f():\n    return chime.CHIME, os.environ['MOOD'], os.getcwd()\n"
    await git.commit("code", {"env/environment.yml": json.dumps(file), "app.py": code})
    opened = await secret(user, authority=git.authority)
    interpreter = shoal.CondaEnvironmentFile("env/environment.yml")
    here = shoal.Deployment.git_repo(
        git.https("code"), interpreter=interpreter, ssh_key_secret=opened
    )
    found = await shoal.run_function("app.f", user.host(), None, here)
    assert found == ("softly", "gay", "/shoal/environment/source")
    await git.commit("code", {"env/environment.yml": "dependencies: [python]\n"})
    with pytest.raises(EnvironmentFailed, match=r"environment\.yml names no channels"):
        await shoal.run_function("app.f", user.host(), None, here)


async def python_in(user: Place, channel: str, folder: Path) -> str:
    """The version of the channel's Python, as a job sees it."""
    here = written(folder, [channel], "python")
    return str(await shoal.run_function("platform.python_version", user.host(), None, here))


async def test_a_conda_environment_of_this_machine(
    user: Place, channels: list[str], tmp_path: Path
) -> None:
    tones, pythons = channels
    version = await python_in(user, pythons, tmp_path)
    prefix = tmp_path / "work"
    (prefix / "conda-meta").mkdir(parents=True)
    for url in (
        f"{pythons}/{SUBDIR}/python-{version}-0.tar.bz2",
        f"{tones}/noarch/tone-1.0-0.tar.bz2",
    ):
        subdir, file = url.split("/")[-2:]
        name, number, build = file.removesuffix(".tar.bz2").split("-")
        record = {"name": name, "version": number, "build": build, "subdir": subdir, "url": url}
        (prefix / "conda-meta" / f"{name}.json").write_text(json.dumps(record))
    info = prefix / "lib" / f"python{PYTHON}" / "site-packages" / "chime-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chime\nVersion: 1.0\n")
    (info / "INSTALLER").write_text("pip\n")
    here = shoal.Deployment(shoal.LocalCondaInterpreter(str(prefix)))

    def installed() -> tuple[str, str]:
        import chime
        import tone

        return chime.CHIME, tone.TONE

    assert await shoal.run_function(installed, user.host(), None, here) == ("softly", "softly")


async def test_what_does_not_go_together_is_told_in_the_solvers_words(
    user: Place, channels: list[str], tmp_path: Path
) -> None:
    here = written(tmp_path, channels, "python", "greeting=1.0", "tone=1.0=0")
    with pytest.raises(EnvironmentFailed, match="greeting") as told:
        await shoal.run_function(tone, user.host(), None, here)
    assert "tone >=2" in str(told.value)
    assert "conda env export --no-builds" in str(told.value)
    here = written(tmp_path, channels, "python", "tone=7.*")
    with pytest.raises(EnvironmentFailed, match=r"No candidates were found for tone 7\.\*"):
        await shoal.run_function(tone, user.host(), None, here)


async def test_a_channel_that_is_not_there(
    user: Place, channels: list[str], tmp_path: Path
) -> None:
    missing = package_index.channel(user.namespace, "nowhere")
    here = written(tmp_path, [*channels, missing], "python", "tone")
    with pytest.raises(EnvironmentFailed, match=f"{missing}/noarch") as told:
        await shoal.run_function(tone, user.host(), None, here)
    assert "name a channel that Pods can reach" in str(told.value)


async def test_packages_without_python(user: Place, channels: list[str], tmp_path: Path) -> None:
    here = written(tmp_path, channels, "bell")
    with pytest.raises(EnvironmentFailed, match="add python to the packages"):
        await shoal.run_function(tone, user.host(), None, here)


async def test_a_manifest_with_conda_packages(user: Place, channels: list[str]) -> None:
    environment = {"conda": {"channels": channels, "packages": ["python", "tone"]}}
    call: dict[str, Any] = {"function": {"name": "tone.__getattribute__", "args": ["TONE"]}}
    done = await user.run(
        "Job", "loud", {**call, "deployment": {"python": PYTHON, "environment": environment}}
    )
    assert done.get("result") == "loudly", done
    assert condition(done, "Complete")["status"] == "True"
