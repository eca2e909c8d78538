"""A real worker process, with a dispatcher that says what the test says.

The test hands out claims and asks for them back; what the worker polls and reports is kept. Nothing
of `shoal.dispatch` is in it, so these tests tell of the worker alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from shoal import packing
from shoal.worker import frames, ranges
from shoal.worker.records import Record, decode

_START = (
    "import sys, cloudpickle; sys.path.insert(0, sys.argv[1]); "
    "from shoal.worker.agent import main; sys.exit(main())"
)
SDK = str(Path(packing.__file__).parents[1])
SECONDS = 60.0


class Reported(NamedTuple):
    """An outcome as it was reported, and when."""

    claim: str
    record: Record
    at: float

    @property
    def state(self) -> str:
        return self.record.state

    @property
    def value(self) -> Any:
        assert self.state == "SUCCEEDED", (self.state, bytes(self.record.data))
        return cloudpickle.loads(self.record.data)

    @property
    def error(self) -> Any:
        return json.loads(bytes(self.record.data))


class Stand:
    """One worker, and what it says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._answers: list[dict[str, Any]] = []
        self._jobs: dict[str, dict[str, Any]] = {}
        self._told: set[str] = set()
        self._number: Any = None
        self._claims = 0
        self._asked_back = False
        self._returns: list[Any] = []
        self._takes_reports = self._takes_uploads = True
        self._uploads = 0
        self.polls: list[dict[str, Any]] = []
        self.outcomes: list[Reported] = []
        self.output: dict[tuple[int, int], bytes] = {}
        self.fatal: dict[str, Any] | None = None
        self.note = folder / "termination-log"
        self.note.touch()
        self.log = folder / "pod.log"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        token = folder / "token"
        token.write_text("token")
        environment = {
            **os.environ,
            "SHOAL_DISPATCHER": f"http://127.0.0.1:{self._server.server_port}",
            "SHOAL_TOKEN_FILE": str(token),
            "SHOAL_SCRATCH": str(folder / "scratch"),
            "SHOAL_TERMINATION_LOG": str(self.note),
            "SHOAL_ORPHAN_SECONDS": "20",
            "PYTHONPATH": str(folder / "modules"),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, SDK],
                stdin=subprocess.DEVNULL,
                stdout=log,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the worker."""
        self._answer({"gone": list(self._jobs)})
        self._answer({"exit": True})
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.take_reports(True)
            self.take_uploads(True)
            self._server.shutdown()
            self._server.server_close()

    # what the dispatcher says

    def job(self, packed: packing.PackedInputs, kind: str, **about: Any) -> str:
        """Make a job known; return its id."""
        job = f"job{len(self._jobs)}"
        inputs = self._folder / f"{job}-inputs"
        inputs.write_bytes(packed.job)
        items = self._folder / f"{job}-items"
        if packed.items is not None:
            with packed.items:
                items.write_bytes(packed.items.read())
        self._jobs[job] = {
            "id": job,
            "name": f"default/{job}",
            "kind": kind,
            "results": "pickle",
            "inputs": {
                "url": inputs.as_uri(),
                "items": items.as_uri(),
                "sha256": packed.sha256,
                "size": len(packed.job),
            },
            **about,
        }
        return job

    def map(self, function: Callable[..., Any] | str, items: Iterable[Any], **about: Any) -> str:
        return self.job(packing.pack_map(function, items), "map", **about)

    def call(self, function: Callable[..., Any], *args: Any, **about: Any) -> str:
        return self.job(packing.pack_function(function, args), "function", **about)

    def command(self, *argv: str, **about: Any) -> str:
        return self.job(packing.pack_command(argv), "command", **about)

    def claim(self, job: str, tasks: Iterable[int] = (0,), attempt: int = 1) -> str:
        """Hand out a claim; return its id."""
        self._claims += 1
        claim = {
            "id": f"claim{self._claims}",
            "job": job,
            "attempt": attempt,
            "tasks": ranges.of(tasks),
        }
        answer: dict[str, Any] = {"claims": [claim]}
        if job not in self._told:
            self._told = {job}
            answer["jobs"] = {job: self._jobs[job]}
        self._answer(answer)
        return f"claim{self._claims}"

    def revoke(self, *jobs: str) -> dict[str, list[int]]:
        """Ask for what has not begun; return what came back, by claim."""
        before = len(self._returns)
        self._answer({"revoke": list(jobs)})
        self.until(lambda: len(self._returns) > before)
        return {claim: _indexes(tasks) for claim, tasks in self._returns[before]}

    def gone(self, job: str) -> None:
        """Tell the worker that a job is over."""
        self._told.discard(job)
        self._answer({"gone": [job]})

    def take_reports(self, takes: bool) -> None:
        """Answer reports, or let them wait."""
        with self._changed:
            self._takes_reports = takes
            self._changed.notify_all()

    def take_uploads(self, takes: bool) -> None:
        """Say where large results go, or let who asks wait."""
        with self._changed:
            self._takes_uploads = takes
            self._changed.notify_all()

    def _answer(self, answer: dict[str, Any]) -> None:
        with self._changed:
            self._answers.append({"claims": [], **answer})
            self._changed.notify_all()

    # what the worker says

    def until(self, condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """Wait until a condition holds of what the worker said."""
        with self._changed:
            found = self._changed.wait_for(condition, seconds)
        assert found, (self.outcomes, self.fatal, self.polls[-3:])
        return found

    def run(self, job: str, tasks: Sequence[int] = (0,), attempt: int = 1) -> dict[int, Reported]:
        """Claim tasks and return their outcomes."""
        before = len(self.outcomes)
        self.claim(job, tasks, attempt)
        self.until(lambda: len(self.outcomes) - before >= len(tasks))
        found = self.outcomes[before:]
        assert sorted(one.record.task for one in found) == sorted(tasks)
        return {one.record.task: one for one in found}

    def held(self) -> dict[str, list[int]]:
        """Return what the worker said last that it holds."""
        return {one["id"]: _indexes(one["tasks"]) for one in self.polls[-1]["held"]}

    def poll(self, message: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            self.polls.append(message)
            if self._asked_back:
                self._returns.append(message.get("returned", []))
            else:
                assert "returned" not in message
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answers, message["wait"])
            answer = self._answers.pop(0) if self._answers else {"claims": []}
            self._asked_back = "revoke" in answer
            return answer

    def report(self, body: bytes) -> dict[str, Any]:
        header, blobs = frames.unpack(body)
        with self._changed:
            self._changed.wait_for(lambda: self._takes_reports)
            if header["number"] != self._number:
                self._take(header, blobs)
            self._number = header["number"]
            self._changed.notify_all()
        return {"gone": [], "later": []}

    def upload(self) -> dict[str, Any]:
        with self._changed:
            self._uploads += 1
            uploaded = self._folder / f"uploaded{self._uploads}"
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._takes_uploads)
        return {"key": uploaded.name, "url": uploaded.as_uri()}

    def uploaded(self, outcome: Reported) -> Any:
        """Return the value of an outcome that went to the bucket."""
        assert outcome.record.ref is not None
        data = (self._folder / outcome.record.ref.key).read_bytes()
        assert hashlib.sha256(data).hexdigest() == outcome.record.ref.sha256
        return cloudpickle.loads(data)

    def until_upload(self) -> None:
        """Wait until the worker asks where a large result is to go."""
        before = self._uploads
        self.until(lambda: self._uploads > before)

    def _take(self, header: dict[str, Any], blobs: list[memoryview]) -> None:
        now = time.monotonic()
        count = len(header["groups"])
        for group, blob in zip(header["groups"], blobs[:count], strict=True):
            for record in decode(group["results"], bytes(blob)):
                self.outcomes.append(Reported(group["claim"], record, now))
        for (_, task, attempt), text in zip(header["output"], blobs[count:], strict=True):
            key = task, attempt
            self.output[key] = self.output.get(key, b"") + bytes(text)
        self.fatal = header["fatal"] or self.fatal

    def _handler(stand) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/report":
                    answer = stand.report(body)
                elif self.path == "/v1/poll":
                    answer = stand.poll(json.loads(body))
                elif self.path == "/v1/upload":
                    answer = stand.upload()
                else:
                    answer = {"job": stand._jobs.get(json.loads(body)["job"])}
                text = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler


def _indexes(tasks: Sequence[Sequence[int]]) -> list[int]:
    return list(ranges.each(ranges.parse(tasks)))


def is_dead(pid: int) -> bool:
    """Tell whether a process is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
