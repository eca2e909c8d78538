"""What travels between two versions of Python is no bytecode."""

from __future__ import annotations

import pathlib
import pickle
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from worker_stand import Stand

from shoal import packing
from shoal.errors import Unpicklable
from shoal.worker import portable

MODULE = """
def call(function):
    return function() if callable(function) else function
def code(_item):
    return lambda: 1
"""


class Local:
    """A class of this module, which is pickled by its name unless somebody says otherwise."""

    def method(self) -> int:
        return 1


def there_and_back(value: Any) -> Any:
    packed = packing.pack_function("m.f", [value], portable=True)
    (args, _), *_ = [portable.loads(packed.job[packed.job.index(b"\x80\x05") :])]
    return args[0]


@pytest.mark.parametrize(
    "value",
    [1, [{"a": (1.5, None)}], Local, len, pathlib.PurePosixPath("/a/b"), pathlib.Path, ValueError],
)
def test_values_and_what_has_a_name_travel(value: Any) -> None:
    assert there_and_back(value) == value


def test_paths_of_the_version_that_has_them_elsewhere_travel() -> None:
    """Python 3.13 alone says that they are in a module which no other version has."""
    theirs = type("PosixPath", (), {"__module__": "pathlib._local"})
    assert there_and_back(theirs) is pathlib.PosixPath
    by_its_module = b"\x80\x05cpathlib._local\nPosixPath\n."
    assert portable.loads(by_its_module) is pathlib.PosixPath


def test_a_client_refuses_what_has_its_code_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unpicklable, match=r"args\[0\] \(function\).*<lambda> travels with its"):
        packing.pack_function("m.f", [lambda: 1], portable=True)
    with pytest.raises(Unpicklable, match=r"item 1 \(function\)") as told:
        packing.pack_map("m.f", [1, lambda: 1], portable=True)
    assert told.value.item == 1
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with pytest.raises(Unpicklable, match="method travels with its code"):
            packing.pack_function("m.f", [Local], portable=True)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_reader_refuses_what_has_another_versions_code_in_it() -> None:
    with pytest.raises(pickle.UnpicklingError, match="another version of Python than"):
        portable.loads(cloudpickle.dumps([lambda: 1]))


def test_a_worker_of_another_version_reads_and_writes_no_code(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "m.py").write_text(MODULE)
    same = stand.map("m.code", [0])
    assert stand.run(same)[0].value() == 1
    monkeypatch.setattr(packing, "python_version", lambda: "3.8")  # says whoever submitted
    outcomes = stand.run(stand.map("m.call", [7, lambda: 8]), (0, 1))
    assert outcomes[0].value == 7
    assert outcomes[1].state == "PYTHON_EXCEPTION"
    assert outcomes[1].error[0] == "_pickle.UnpicklingError"
    assert "define it in a module that can be imported there" in outcomes[1].error[1]
    refused = stand.run(stand.map("m.code", [0]))[0]
    assert refused.state == "RESULT_CANNOT_BE_PICKLED"
    assert "<lambda> travels with its code" in refused.error[1]
