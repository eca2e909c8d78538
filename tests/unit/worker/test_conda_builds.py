"""Conda packages are installed by py-rattler, as the operator serves it, from channels of files."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conda_channel import PLACEHOLDER, SUBDIR, Package, channel, package

from shoal.dispatch.tars import Tar
from shoal.worker import conda, environment

RATTLER = Path(str(importlib.util.find_spec("rattler").origin)).parent  # type: ignore[union-attr]
VERSION = platform.python_version()
LIBRARY = "lib/python{}.{}/site-packages".format(*sys.version_info[:2])
HERE = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
PYTHON = package("python", VERSION, {"bin/python": HERE.encode()}, subdir=SUBDIR)
TONE = package("tone", "1.0", {"site-packages/tone.py": b"TONE = 1\n"}, needs=("python",))
NEWER = package("tone", "2.0", {"site-packages/tone.py": b"TONE = 2\n"}, needs=("python",))
NEEDY = package("needy", "1.0", {"site-packages/needy.py": b""}, needs=("tone >=2",))
SCRIPT = b'export BELL_HOME="$CONDA_PREFIX/share" BELL_OLD="$OLD" ; unset NOTHING\n'
BELL = package(
    "bell",
    "1.0",
    {
        "etc/conda/activate.d/bell.sh": SCRIPT,
        "etc/conda/env_vars.d/bell.json": b'{"BELL_SIZE": "small"}',
        "share/bell.txt": f"at {PLACEHOLDER}".encode(),
    },
    subdir=SUBDIR,
)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """py-rattler as the operator serves it."""
    path = tmp_path_factory.mktemp("tool") / "rattler.tar"
    served = Tar(RATTLER)

    async def write() -> None:
        with path.open("wb") as file:
            async for piece in served.pieces():
                file.write(piece)

    asyncio.run(write())
    assert path.stat().st_size == served.size
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Stand:
    """A folder with channels in it, which are served, and one to install into."""

    def __init__(self, folder: Path, tool: Path) -> None:
        self._folder, self._tool = folder, tool
        self.target = folder / "environment"
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def channel(self, name: str, *packages: Package) -> str:
        for path, data in channel(name, *packages).items():
            channel_name, subdir, file = path.split("_", 2)
            target = self._folder / channel_name / subdir / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def install(self, **wanted: list[str]) -> str:
        """Return what it printed, an "error:" before it if it failed."""
        done = subprocess.run(
            conda.command(dict(wanted), str(self._tool), str(self.target)),
            env={**os.environ, "TMPDIR": str(self._folder), "OLD": "yes"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else f"error: {done.stdout}"


@pytest.fixture
def stand(tmp_path: Path, tool: Path) -> Iterator[Stand]:
    made = Stand(tmp_path, tool)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_tools_tar_is_one_that_others_read(tmp_path: Path) -> None:
    (tmp_path / "tool" / "deep").mkdir(parents=True)
    (tmp_path / "tool" / "deep" / "large").write_bytes(os.urandom((1 << 20) + 700))
    (tmp_path / "tool" / "empty").write_bytes(b"")
    served = Tar(tmp_path / "tool")

    async def read() -> bytes:
        return b"".join([piece async for piece in served.pieces()])

    data = asyncio.run(read())
    assert len(data) == served.size
    (tmp_path / "tar").write_bytes(data)
    with tarfile.open(tmp_path / "tar") as packed:
        assert packed.getnames() == ["tool/deep/large", "tool/empty"]
        large = packed.extractfile("tool/deep/large")
        assert large is not None
        assert large.read() == (tmp_path / "tool" / "deep" / "large").read_bytes()


def test_packages_are_solved_installed_and_told(stand: Stand) -> None:
    url = stand.channel("tones", PYTHON, TONE, NEWER, BELL)
    told = stand.install(channels=[url], packages=["tone=1.*", "bell", "python"])
    assert "+ tone=1.0=0" in told, told
    assert "__linux=" in told
    assert (stand.target / LIBRARY / "tone.py").read_text() == "TONE = 1\n"
    assert (stand.target / "share" / "bell.txt").read_text() == f"at {stand.target}"
    assert conda.version_of_python(str(stand.target)) == VERSION
    assert list((stand.target / LIBRARY).glob("__pycache__/tone.*.pyc"))  # compiled once, for all


def test_what_activation_sets_is_noted(stand: Stand) -> None:
    url = stand.channel("tones", PYTHON, BELL)
    told = stand.install(channels=[url], packages=["python", "bell"])
    assert json.loads((stand.target / environment.ACTIVATION).read_text()) == {
        "BELL_HOME": f"{stand.target}/share",
        "BELL_OLD": "yes",
        "BELL_SIZE": "small",
    }, told
    assert json.loads((stand.target / "etc/conda/env_vars.d/bell.json").read_text()) == {
        "BELL_SIZE": "small"
    }


def test_a_channel_goes_before_those_after_it_unless_that_can_not_be(stand: Stand) -> None:
    first, second = stand.channel("first", PYTHON, TONE), stand.channel("second", NEWER)
    told = stand.install(channels=[first, second], packages=["python", "tone"])
    assert "+ tone=1.0=0" in told, told
    told = stand.install(channels=[first, second], packages=["python", "tone=2"])
    assert "+ tone=2.0=0" in told, told


def test_the_channel_that_a_package_names_counts_too(stand: Stand) -> None:
    first, second = stand.channel("first", PYTHON, TONE), stand.channel("second", NEWER)
    told = stand.install(channels=[first], packages=["python", f"{second}::tone"])
    assert "+ tone=2.0=0" in told, told


def test_names_of_channels_mean_what_condas_variables_say(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = stand.channel("first", PYTHON), stand.channel("second", TONE)
    monkeypatch.setenv("CONDA_CHANNEL_ALIAS", first.rpartition("/")[0])
    monkeypatch.setenv("CONDA_DEFAULT_CHANNELS", second)
    told = stand.install(channels=["first", "defaults"], packages=["python", "tone"])
    assert f"channels: {first}/, {second}/" in told, told
    assert "+ tone=1.0=0" in told
    told = stand.install(channels=["first"], packages=["python", "defaults::tone"])
    assert f"channels: {first}/, {second}/" in told
    assert not told.startswith("error: ")
    told = stand.install(channels=["second"], packages=["first::python", "second::tone"])
    assert f"channels: {second}/, {first}/" in told
    assert not told.startswith("error: ")


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        (["python", "needy"], "needy * cannot be installed"),
        (["python", "tone=9"], "No candidates were found for tone 9.*"),
        (["python", "tone=1.0=other"], "conda env export --no-builds"),
        (["bell"], "add python to the packages"),
        (["python", "tone ="], "'tone =' is no match spec"),
    ],
)
def test_what_can_not_be_is_told_in_the_solvers_words(
    stand: Stand, packages: list[str], words: str
) -> None:
    url = stand.channel("tones", PYTHON, TONE, NEEDY, BELL)
    told = stand.install(channels=[url], packages=packages)
    assert told.startswith("error: "), told
    assert words in told
    assert "Traceback" not in told


def test_a_channel_that_is_not_there(stand: Stand) -> None:
    url = stand.channel("tones", PYTHON)
    told = stand.install(channels=[url, url + "-not"], packages=["python"])
    assert told.startswith("error: ")
    assert "tones-not" in told
    assert conda.HINT in told
    assert "Traceback" not in told


@pytest.mark.parametrize("kind", ["md5", "sha256", "none", "wrong"])
def test_explicit_packages(stand: Stand, kind: str) -> None:
    url = stand.channel("tones", PYTHON, TONE)
    data = TONE.data if kind != "wrong" else b""
    digest = {
        "md5": "#" + hashlib.md5(data).hexdigest(),
        "sha256": "#sha256:" + hashlib.sha256(data).hexdigest(),
        "none": "",
        "wrong": "#" + hashlib.sha256(data).hexdigest(),
    }[kind]
    told = stand.install(
        explicit=[f"{url}/{SUBDIR}/{PYTHON.file}", f"{url}/noarch/{TONE.file}{digest}"]
    )
    if kind == "wrong":
        assert told.startswith("error: ")
        assert f"has sha256 {hashlib.sha256(TONE.data).hexdigest()}, the list says" in told
    else:
        assert (stand.target / LIBRARY / "tone.py").is_file(), told


def test_an_explicit_package_for_another_platform(stand: Stand) -> None:
    told = stand.install(explicit=["https://example.com/main/osx-arm64/python-3.12.0-0.conda"])
    assert told.startswith("error: ")
    assert f"is for osx-arm64, this node is {SUBDIR}: make the list on {SUBDIR}" in told


def test_an_installer_that_the_image_can_not_load_is_told(tmp_path: Path) -> None:
    (tmp_path / "rattler").mkdir()
    (tmp_path / "rattler" / "__init__.py").write_text("import libc_of_another_kind\n")
    with tarfile.open(tmp_path / "tool", "w") as packed:
        packed.add(tmp_path / "rattler", "rattler")
    stand = Stand(tmp_path, tmp_path / "tool")
    told = stand.install(channels=["forge"], packages=["python"])
    assert told == f"error: No module named 'libc_of_another_kind'\n{conda.NO_GLIBC}\n"


def test_a_python_that_is_too_old_for_the_installer_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = importlib.metadata.metadata("py-rattler")["Requires-Python"]
    assert needed == ">={}.{}".format(*conda.OLDEST)
    monkeypatch.setattr(sys, "argv", ["-c", "{}", "tool", "target"])
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=r"Python 3\.9 is too old.* 3\.10 or newer"):
        conda.main()
