"""Builds the worker's zip: what a plain image with Python needs to become a worker.

At its root lies the worker under a private name; under ``lib/`` lie cloudpickle and those modules
of the SDK that a user's module touches when it is imported. ``lib/`` goes to the end of the path:
an installed shoal or cloudpickle is used whole, or not at all.

Beside each source lies its bytecode for the Python that builds the zip, in most installations also
the workers': a new worker then compiles nothing. Another Python ignores it and takes the source.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cloudpickle

from shoal import PLAIN_MODULES

#: A fixed time stamp: the same sources give the same bytes.
_DATE = (2020, 1, 1, 0, 0, 0)


@cache
def build() -> tuple[bytes, str]:
    """Return the zip and its sha256, hexadecimal."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, path in sorted(_files()):
            source = path.read_bytes()
            for file, data in ((name, source), (f"{name}c", _compiled(name, source))):
                archive.writestr(zipfile.ZipInfo(file, _DATE), data, zipfile.ZIP_DEFLATED)
    built = buffer.getvalue()
    return built, hashlib.sha256(built).hexdigest()


def _files() -> Iterator[tuple[str, Path]]:
    here = Path(__file__).parent
    for path in (here / "worker").glob("*.py"):
        yield f"_shoal_worker/{path.name}", path
    for name in PLAIN_MODULES:
        yield f"lib/shoal/{name}.py", here / f"{name}.py"
    for path in Path(cloudpickle.__file__).parent.glob("*.py"):
        yield f"lib/cloudpickle/{path.name}", path


def _compiled(name: str, source: bytes) -> bytes:
    """Return the module's bytecode file for this Python, valid without a look at the source."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    unchecked = (0b01).to_bytes(4, "little") + importlib.util.source_hash(source)
    # Later versions of the format note which strings are interned, and thereby what this process
    # did before; but Pods that wait for the zip may know its digest from another process.
    return importlib.util.MAGIC_NUMBER + unchecked + marshal.dumps(code, 2)
