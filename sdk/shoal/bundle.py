"""Builds the worker's zip: what a plain image with Python needs to become a worker.

At its root lies the worker under a private name; under ``lib/`` lie cloudpickle and those modules
of the SDK that a user's module touches when it is imported. ``lib/`` goes to the end of the path:
an installed shoal or cloudpickle is used whole, or not at all.
"""

from __future__ import annotations

import hashlib
import io
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
            archive.writestr(zipfile.ZipInfo(name, _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()


def _files() -> Iterator[tuple[str, Path]]:
    here = Path(__file__).parent
    for path in (here / "worker").glob("*.py"):
        yield f"_shoal_worker/{path.name}", path
    for name in PLAIN_MODULES:
        yield f"lib/shoal/{name}.py", here / f"{name}.py"
    for path in Path(cloudpickle.__file__).parent.glob("*.py"):
        yield f"lib/cloudpickle/{path.name}", path
