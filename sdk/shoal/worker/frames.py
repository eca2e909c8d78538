"""One framing for everything that carries a JSON header and raw bytes.

Input objects, reports, ledger entries and log chunks are all such frames::

    b"SHF1" | header length, u32 big endian | header, JSON in UTF-8 | blob | blob | ...

The header's ``sizes`` lists the length of each blob in bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Union

MAGIC = b"SHF1"
_HEAD = struct.Struct(">4sI")

Bytes = Union[bytes, bytearray, memoryview]


class FrameError(ValueError):
    """The bytes are not a frame: cut short, or something else altogether."""


def pack(header: dict[str, Any], blobs: Sequence[Bytes] = ()) -> bytes:
    """Return the frame of `header` and `blobs`."""
    text = json.dumps(
        {**header, "sizes": [len(blob) for blob in blobs]}, separators=(",", ":")
    ).encode()
    return b"".join([_HEAD.pack(MAGIC, len(text)), text, *blobs])


def unpack(data: Bytes) -> tuple[dict[str, Any], list[memoryview]]:
    """Return header and blobs of a frame; the blobs are views, nothing is copied.

    Raises:
        FrameError: the bytes are no frame, or are longer or shorter than their header says.
    """
    view = memoryview(data)
    if len(view) < _HEAD.size:
        raise FrameError(f"{len(view)} bytes are too few for a frame")
    magic, length = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise FrameError(f"a frame begins with {MAGIC!r}, this with {bytes(magic)!r}")
    start = _HEAD.size + length
    try:
        header = json.loads(bytes(view[_HEAD.size : start]))
        sizes = [int(size) for size in header["sizes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FrameError(f"the frame's header cannot be read: {error}") from None
    if min(sizes, default=0) < 0 or start + sum(sizes) != len(view):
        raise FrameError(
            f"the frame's header tells of {start + sum(sizes)} bytes, {len(view)} came"
        )
    blobs = []
    for size in sizes:
        blobs.append(view[start : start + size])
        start += size
    return header, blobs
