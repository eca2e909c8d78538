"""A worker fetches its environment whole, or says why it can't, and goes on under its Python."""

from __future__ import annotations

import gzip
import json
import os
import platform
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shoal.worker import building, environment, installing, patience, tools
from shoal.worker.environment import EnvironmentUnusable, check, fetch, unpack
from shoal.worker.tools import BuildFailed

PYTHON = platform.python_version()


class Served:
    """A dispatcher and a bucket in one; what is in `spoil` happens first, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spoil = folder, list[str]()
        self.about: dict[str, Any] = {"python": PYTHON, "machine": platform.machine()}
        self.asked: list[Any] = []
        self.uploaded = b""
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/uv":
                    return self._send(b"#!/bin/sh\n" * 100_000)
                served.asked.append(json.loads(body))
                if served._spoils("later"):
                    return self._send(b"later", status=503)
                answer = {**served.about, "url": f"{served.url}/archive", "key": "k"}
                self._send(json.dumps(answer).encode())

            def do_GET(self) -> None:
                data = (served.folder / "archive").read_bytes()
                if served._spoils("gone"):
                    return self._send(b"no such key", status=404)
                if served._spoils("changed"):
                    data = data[:-1] + b"?"
                self._send(data)

            def do_PUT(self) -> None:
                served.uploaded = self.rfile.read(int(self.headers["Content-Length"]))
                expired = served._spoils("expired")
                self._send(b"", status=403 if expired else 200)

            def _send(self, data: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if served._spoils("cut") else data)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _spoils(self, what: str) -> bool:
        if self.spoil[:1] == [what]:
            self.spoil.pop(0)
            return True
        return False

    def pack(self, source: Path) -> None:
        sha256 = building._pack(str(source), str(self.folder / "archive"))
        self.about["sha256"] = sha256

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    (tmp_path / "token").write_text("token")
    made = Served(tmp_path)
    monkeypatch.setenv("SHOAL_DISPATCHER", made.url)
    monkeypatch.setenv("SHOAL_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SHOAL_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("SHOAL_JOB", "job")
    monkeypatch.setattr(patience, "RETRIES", (0.0,))
    (tmp_path / "scratch").mkdir()
    source = tmp_path / "environment"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "python").symlink_to(sys.executable)
    (source / "notes.txt").write_text("packed")
    made.pack(source)
    yield made
    made.close()


@pytest.mark.parametrize("trouble", ["later", "cut", "gone", "changed"])
def test_what_cannot_be_read_once_is_asked_for_again(served: Served, trouble: str) -> None:
    served.spoil = [trouble] if trouble != "cut" else ["cut", "cut"]
    path = served.folder / "fetched"
    assert fetch("environment-x", str(path))["sha256"] == served.about["sha256"]
    assert path.read_bytes() == (served.folder / "archive").read_bytes()
    assert served.asked[-1] == {"environment": "environment-x"}
    assert served.spoil == []


@pytest.mark.parametrize(
    ("trouble", "words"),
    [("later", "HTTP 503"), ("gone", "HTTP 404"), ("changed", "it has sha256")],
)
def test_what_never_can_be_read_is_told(
    served: Served, monkeypatch: pytest.MonkeyPatch, trouble: str, words: str
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    served.spoil = [trouble] * 100
    with pytest.raises(EnvironmentUnusable, match=words):
        fetch("environment-x", str(served.folder / "fetched"))


def test_an_environment_of_another_python_or_machine_is_refused() -> None:
    fits = {"python": PYTHON, "machine": platform.machine()}
    check(fits)
    with pytest.raises(EnvironmentUnusable, match=r"for Python 3\.8 on"):
        check({**fits, "python": "3.8.1"})
    with pytest.raises(EnvironmentUnusable, match="on riscv64, this is"):
        check({**fits, "machine": "riscv64"})
    check({**fits, "python": "3.8.1", "conda": True})  # it brings its own
    with pytest.raises(EnvironmentUnusable, match="on riscv64, this is"):
        check({**fits, "machine": "riscv64", "conda": True})


def test_unpacking_keeps_links_and_leaves_nothing_beside(served: Served, tmp_path: Path) -> None:
    target = tmp_path / "there" / "environment"
    target.parent.mkdir()
    (tmp_path / "there" / "environment.part").mkdir()  # of a start that was cut short
    unpack(str(served.folder / "archive"), str(target))
    assert os.readlink(target / "bin" / "python") == sys.executable
    assert (target / "notes.txt").read_text() == "packed"
    assert [path.name for path in target.parent.iterdir()] == ["environment"]


def test_the_same_files_give_the_same_archive(served: Served, tmp_path: Path) -> None:
    source = tmp_path / "environment"
    first = building._pack(str(source), str(tmp_path / "one.tar.gz"))
    again = building._pack(str(source), str(tmp_path / "one.tar.gz"))
    assert first == again == served.about["sha256"]
    with gzip.open(tmp_path / "one.tar.gz") as packed, tarfile.open(fileobj=packed) as archive:
        owners = {(entry.uid, entry.gid, entry.uname) for entry in archive}
    assert owners == {(0, 0, "")}


def test_who_gives_up_tells_the_kubelet_and_the_remedy(served: Served, tmp_path: Path) -> None:
    note = tmp_path / "termination-log"
    note.touch()
    served.about["machine"] = "riscv64"
    code = "from shoal.worker import environment; environment.enter()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "SHOAL_ENVIRONMENT": "environment-x",
            "SHOAL_TERMINATION_LOG": str(note),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "on riscv64, this is" in note.read_text()
    assert "delete jobs.shoal.dev/environment-x to have it built again" in note.read_text()
    assert note.read_text() in done.stderr


def test_a_conda_environment_is_entered_as_activated(served: Served, tmp_path: Path) -> None:
    """Its Python is run with what activation sets; what the Pod says goes before that."""
    source = tmp_path / "environment"
    tell = "import json, os; print(json.dumps(dict(os.environ)))"
    (source / "bin" / "python").unlink()
    (source / "bin" / "python").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{tell}'\n")
    (source / "bin" / "python").chmod(0o755)
    (source / environment.ACTIVATION).write_text('{"BELL": "ding", "SAID": "by the package"}')
    served.pack(source)
    served.about |= {"python": "3.8.1", "conda": True}
    code = "from shoal.worker import environment; environment.enter()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "SHOAL_ENVIRONMENT": "environment-x",
            "SHOAL_LIBRARY": str(tmp_path / "worker.zip" / "lib"),
            "SAID": "by the Pod",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    home = str(tmp_path / "scratch" / "environment")
    assert (told["CONDA_PREFIX"], told["BELL"], told["SAID"]) == (home, "ding", "by the Pod")
    assert told["PATH"].split(os.pathsep)[0] == f"{home}/bin"
    assert told.get("VIRTUAL_ENV") == os.environ.get("VIRTUAL_ENV")


def test_the_tool_is_fetched_whole(served: Served, tmp_path: Path) -> None:
    served.spoil = ["cut"]
    installing._fetch("uv", "/v1/uv")
    uv = tmp_path / "scratch" / "uv"
    assert uv.stat().st_size == 1_000_000


def test_an_archive_is_uploaded_again_when_its_url_was_too_old(served: Served) -> None:
    served.spoil = ["expired"]
    assert building._upload(str(served.folder / "archive")) == "k"
    assert served.uploaded == (served.folder / "archive").read_bytes()
    assert len(served.asked) == 2


def test_a_build_that_fails_ends_with_the_tools_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "[print('line', n) for n in range(50)]; print('no such version'); exit(3)"
    with pytest.raises(BuildFailed) as told:
        tools.run(sys.executable, "-c", script)
    lines = str(told.value).splitlines()
    assert len(lines) == tools.LAST_LINES
    assert lines[-2:] == ["line 49", "no such version"]
    assert "line 0\n" in capfd.readouterr().out
    monkeypatch.setenv("SHOAL_SCRATCH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(BuildFailed, match="Alpine"):
        installing._uv("venv")
