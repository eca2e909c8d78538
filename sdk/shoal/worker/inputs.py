"""Fetches what a job needs, checks every byte, and cuts claims into pieces for the child.

Nothing is handed on that does not have the digest which the dispatcher named (for `inputs/job` and
the code) or which that object names (for each block of items).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple

from . import blocks, frames, ranges, usercode
from .objects import Expired, NotThere, Objects

#: How long inputs that are not there yet are waited for, in seconds: longer than a client tries to
#: upload them (`shoal.outages.UPLOAD_SECONDS`, and what its last attempt takes).
ARRIVAL_SECONDS = 20.0
#: How often they are looked for then, in seconds.
LOOK_SECONDS = 0.5

Bytes = Any  # bytes or memoryview


class Fatal(Exception):
    """The job cannot run anywhere: said once, instead of by each of its tasks."""

    def __init__(self, reason: str, message: str, error: Sequence[str] | None = None) -> None:
        """`reason` is one of the conditions' closed list; `error` is (type, message, traceback)."""
        super().__init__(message)
        self.reason, self.message, self.error = reason, message, error


class Piece(NamedTuple):
    """Some tasks of one claim with their items, as the child gets them."""

    claim: str
    attempt: int
    tasks: list[int]
    items: list[Bytes]


class JobInputs:
    """What this worker knows of one job."""

    def __init__(
        self,
        about: dict[str, Any],
        objects: Objects,
        describe: Callable[[str], dict[str, Any]],
        scratch: str,
    ) -> None:
        """Fetch and check `inputs/job` and the code; `describe` gets the description anew.

        Raises:
            Fatal: they are not there, or not what was submitted, or for another Python.
        """
        self.id: str = about["id"]
        self.name: str = about["name"]
        self._about, self._objects, self._describe = about, objects, describe
        self._scratch = scratch
        self._block: tuple[blocks.BlockRef, list[memoryview]] | None = None
        self._inline: memoryview | None = None
        self._refs: list[blocks.BlockRef] = []
        self._items: list[bytes] | None = None
        self._blobs: list[memoryview] = []
        self._header: dict[str, Any] = {}
        if about.get("inputs"):
            self._open_inputs()
        else:
            self._open_inline(about["inline"])
        self.code = self._unpack_code()

    def _open_inputs(self) -> None:
        where = self._about["inputs"]
        raw = self._fetch("inputs", "url")
        digest = hashlib.sha256(raw).hexdigest()
        if digest != where["sha256"]:
            raise Fatal(
                "InputsCorrupt",
                f"{self.name}: the inputs have sha256 {digest}, not {where['sha256']}",
            )
        header, blobs = frames.unpack(raw)
        self._header, self._blobs = header, blobs
        if "blob" in header.get("function", {}):
            _check_python(self.name, header["python"])
        items = header.get("items")
        if items is None:  # a command: one task without an item
            self._items = [b""]
            return
        self._refs = [blocks.BlockRef(*row) for row in items["blocks"]]
        if items["inline"] is not None:
            self._inline = blobs[items["inline"]]

    def _open_inline(self, inline: dict[str, Any]) -> None:
        self._header = dict(inline, kind=self._about["kind"])
        self._items = [json.dumps(item).encode() for item in inline.get("items", [None])]

    @property
    def kind(self) -> str:
        """What the job is: a function, a command or a map."""
        return str(self._header["kind"])

    @property
    def timeout(self) -> float | None:
        """How long a task may take, in seconds."""
        seconds: float | None = self._about.get("timeout")
        return seconds

    def opening(self, mark: str) -> bytes:
        """Return the message that makes a child ready for the job; `mark` is for its output."""
        paths, directory = [], os.path.join(self._scratch, "work")
        if self.code:
            paths = [os.path.join(self.code, path) for path in self._sys_paths()]
            directory = os.path.join(self.code, self._about["code"]["workingDirectory"])
        elif source := os.environ.get("SHOAL_SOURCE"):
            paths = [os.path.join(source, os.environ["SHOAL_SOURCE_PATH"])]
            directory = source
        os.makedirs(directory, exist_ok=True)
        job = {
            "id": self.id,
            "kind": self._header["kind"],
            "python": self._header.get("python"),
            "function": self._header.get("function"),
            "argv": self._header.get("argv"),
            "context": self._header.get("context"),
            "results": self._about["results"],
            "sysPaths": [os.path.normpath(path) for path in paths],
            "directory": os.path.normpath(directory),
            "tellsBegin": self.timeout is not None,
            "mark": mark,
        }
        keep = self._blobs if self._inline is None else self._blobs[:-1]
        return frames.pack({"open": job}, keep)

    def _sys_paths(self) -> list[str]:
        return list(self._about["code"]["sysPaths"])

    def pieces(self, claim: dict[str, Any]) -> Iterator[Piece]:
        """Yield the claim's tasks with their items, block by block."""
        tasks: list[int] = []
        items: list[Bytes] = []
        for start, stop in ranges.parse(claim["tasks"]):
            task = start
            while task < stop:
                first, held = self._holding(task)
                upto = min(stop, first + len(held))
                tasks.extend(range(task, upto))
                items.extend(held[task - first : upto - first])
                task = upto
                if sum(map(len, items)) >= 1 << 20:
                    yield Piece(claim["id"], claim["attempt"], tasks, items)
                    tasks, items = [], []
        if tasks:
            yield Piece(claim["id"], claim["attempt"], tasks, items)

    def _holding(self, task: int) -> tuple[int, Sequence[Bytes]]:
        """Return the first task and the items of the block that `task` is in."""
        if self._items is not None:
            return 0, self._items
        if self._block is None or not 0 <= task - self._block[0].first < self._block[0].items:
            ref = _find(self._refs, task)
            if self._inline is not None:
                raw: Bytes = self._inline
            else:
                raw = self._fetch("inputs", "items", span=(ref.offset, ref.offset + ref.length))
            try:
                self._block = ref, blocks.split(raw, ref)
            except blocks.BlockError as error:
                raise Fatal("InputsCorrupt", f"{self.name}: {error}") from None
        return self._block[0].first, self._block[1]

    def _fetch(self, *where: str | int, span: tuple[int, int] | None = None) -> bytes:
        """Return the object whose URL is there; a small one may still be on its way."""
        wait, until = 0.002, time.monotonic() + ARRIVAL_SECONDS
        while True:
            url: Any = self._about
            for step in where:
                url = url[step]
            try:
                return self._objects.get(url, span)
            except Expired:
                self._about = self._describe(self.id)  # raises once the job is over
            except NotThere as error:
                if time.monotonic() >= until:
                    raise Fatal("InputsNotFound", f"{self.name}: {error}") from None
                time.sleep(wait)
                wait = min(2 * wait, LOOK_SECONDS)

    def _unpack_code(self) -> str:
        """Unpack the user's code unless it lies there already; return the folder, or nothing."""
        code = self._about.get("code")
        if not code:
            return ""
        name = usercode.name_of([part["sha256"] for part in code["parts"]])
        folder = os.path.join(self._scratch, "code", name)
        if not os.path.isdir(folder):
            if any("url" not in part for part in code["parts"]):
                self._about = self._describe(self.id)
            usercode.unpack(self._parts(), folder)
        return folder

    def _parts(self) -> Iterator[bytes]:
        """Yield the parts of the user's code, each with the digest that it must have."""
        parts = self._about["code"]["parts"]
        for number, early in enumerate(usercode.fetched([part["url"] for part in parts])):
            raw = self._fetch("code", "parts", number, "url") if early is None else early
            digest, expected = hashlib.sha256(raw).hexdigest(), parts[number]["sha256"]
            if digest != expected:
                raise Fatal(
                    "InputsCorrupt", f"{self.name}: the code has sha256 {digest}, not {expected}"
                )
            yield raw


def _check_python(name: str, theirs: str) -> None:
    ours = "{}.{}".format(*sys.version_info[:2])
    if ours != theirs:
        raise Fatal(
            "PythonMismatch",
            f"{name}: the function was pickled by Python {theirs}, it would run under Python "
            f"{ours}; use an image or an environment with Python {theirs}, or name the function as "
            "'module.function'",
        )


def _find(refs: Sequence[blocks.BlockRef], task: int) -> blocks.BlockRef:
    low, high = 0, len(refs) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if refs[middle].first <= task:
            low = middle
        else:
            high = middle - 1
    return refs[low]
