"""A worker fetches the parts of the user's code, checks them and unpacks them as one folder."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from worker_stand import Stand

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def read(*names: str) -> list[str]:
    return [open(name).read() for name in names]


class Code:
    """Parts of code that lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.parts: list[dict[str, Any]] = []

    def add(self, **files: str) -> Path:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in files.items():
                archive.writestr(f"here/{name}", text)
        path = self._folder / f"part{len(self.parts)}.zip"
        path.write_bytes(buffer.getvalue())
        sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.parts.append({"url": path.as_uri(), "sha256": sha256, "size": path.stat().st_size})
        return path

    def told(self, parts: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        parts = self.parts if parts is None else parts
        return {"parts": parts, "sysPaths": ["here"], "workingDirectory": "here"}


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 20])
def test_all_parts_are_one_folder(stand: Stand, code: Code, count: int) -> None:
    for number in range(count):
        code.add(**{f"n{number}": str(number)})
    names = [f"n{number}" for number in range(count)]
    job = stand.call(read, *names, code=code.told())
    assert stand.run(job)[0].value == [str(number) for number in range(count)]


def test_urls_that_an_offer_leaves_out_are_asked_for(stand: Stand, code: Code) -> None:
    code.add(a="1")
    code.add(b="2")
    without = [{"sha256": part["sha256"], "size": part["size"]} for part in code.parts]
    job = stand.call(read, "a", "b", code=code.told(without))
    offered = dict(stand._jobs[job])
    claim = {"id": "c", "job": job, "attempt": 1, "tasks": [[0, 1]]}
    stand._jobs[job] = {**offered, "code": code.told()}
    stand._answer({"claims": [claim], "jobs": {job: offered}})
    stand.until(lambda: stand.outcomes)
    assert stand.outcomes[0].value == ["1", "2"]


def test_a_worker_that_has_the_code_reads_none_of_it(stand: Stand, code: Code) -> None:
    paths = [code.add(a="1"), code.add(b="2")]
    assert stand.run(stand.call(read, "a", "b", code=code.told()))[0].value == ["1", "2"]
    for path in paths:
        path.unlink()
    without = [{"sha256": part["sha256"], "size": part["size"]} for part in code.parts]
    again = stand.call(read, "b", code=code.told(without))
    assert stand.run(again)[0].value == ["2"]


def test_code_with_another_part_is_other_code(stand: Stand, code: Code) -> None:
    code.add(a="1")
    code.add(b="2")
    assert stand.run(stand.call(read, "b", code=code.told()))[0].value == ["2"]
    first, _ = code.parts
    code.add(b="3")
    changed = [first, code.parts[2]]
    assert stand.run(stand.call(read, "a", "b", code=code.told(changed)))[0].value == ["1", "3"]


def test_a_part_that_comes_late_is_waited_for(stand: Stand, code: Code, tmp_path: Path) -> None:
    code.add(a="1")
    late = code.add(b="2")
    os.rename(late, tmp_path / "elsewhere")
    job = stand.call(read, "a", "b", code=code.told())
    stand.claim(job)
    unpacked, until = tmp_path / "scratch" / "code", time.monotonic() + 20
    while not list(unpacked.glob("*.part/here/a")):
        assert time.monotonic() < until, "the part that is there is not unpacked"
        time.sleep(0.01)
    assert stand.outcomes == []
    os.rename(tmp_path / "elsewhere", late)
    stand.until(lambda: stand.outcomes)
    assert stand.outcomes[0].value == ["1", "2"]


def test_a_part_that_was_exchanged_is_refused_by_its_digest(stand: Stand, code: Code) -> None:
    code.add(a="1")
    exchanged = code.add(b="2")
    code.add(c="3")
    exchanged.write_bytes(b"something else")
    stand.claim(stand.call(read, "a", code=code.told()))
    stand.until(lambda: stand.fatal)
    assert stand.fatal is not None
    assert stand.fatal["reason"] == "InputsCorrupt"
    assert f"the code has sha256 {hashlib.sha256(b'something else').hexdigest()}, not" in str(
        stand.fatal["message"]
    )


def test_a_part_that_is_no_zip_is_said_to_be_corrupt(stand: Stand, code: Code) -> None:
    code.add(a="1")
    path = code.add(b="2")
    path.write_bytes(b"no zip")
    code.parts[1]["sha256"] = hashlib.sha256(b"no zip").hexdigest()
    stand.claim(stand.call(read, "a", code=code.told()))
    stand.until(lambda: stand.fatal)
    assert stand.fatal is not None
    assert (stand.fatal["reason"], "not a zip" in stand.fatal["message"]) == ("InputsCorrupt", True)
