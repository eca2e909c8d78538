"""Pickles that travel between two versions of Python: those with bytecode in them are refused.

A function or class that can be imported is pickled as its name. One that can't is pickled with its
bytecode, which another version of Python can't run: reading it may end the process.
"""

from __future__ import annotations

import io
import pathlib
import pickle
import sys
import types
from typing import Any

import cloudpickle

#: Where Python 3.13, and no other, says that the classes of pathlib are.
_PATHS = "pathlib._local"
_REMEDY = "define it in a module that can be imported there"


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles what any version of Python can read."""

    def reducer_override(self, value: Any) -> Any:
        """Refuse bytecode, and call pathlib's classes what they are called everywhere."""
        if isinstance(value, types.CodeType):
            raise pickle.PicklingError(
                f"{value.co_name} travels with its code, which another version of Python can't "
                f"read: {_REMEDY}"
            )
        if isinstance(value, type) and value.__module__ == _PATHS:
            return getattr, (pathlib, value.__name__)
        return super().reducer_override(value)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class("pathlib" if module == _PATHS else module, name)
        return _without_code(found) if name == "_builtin_type" else found


def _without_code(found: Any) -> Any:
    def type_of(name: str) -> Any:
        if name == "CodeType":
            raise pickle.UnpicklingError(
                "a function or class in it was pickled with its code by another version of Python "
                "than {}.{}: {}".format(*sys.version_info[:2], _REMEDY)
            )
        return found(name)

    return type_of


def loads(data: bytes | memoryview) -> Any:
    """Return what another version of Python has pickled; raise UnpicklingError at bytecode."""
    return _Unpickler(io.BytesIO(data)).load()
