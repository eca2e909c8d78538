"""Cuts the user's code into parts, so that a changed file changes only one of them.

A part is a zip of some of the files, the same for the same files (fixed dates), so that its digest
is its name in the bucket. Which files share a part follows from their names and from the number of
parts, a power of two that follows from the size of all of them; a large file is a part of its own.
Code of at most `PART` bytes is one part.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from shoal.deployment import CodePart

PART = 1 << 20
"""Bytes of files from which on there is more than one part, and a file is large."""

MOST_SHARED = 32
"""The most parts of several files."""

MOST_ALONE = 32
"""The most files that are parts of their own: where more are large, only larger ones are."""

EPOCH = (1980, 1, 1, 0, 0, 0)


class Entry(NamedTuple):
    """A file, as it was when it was looked at, or a folder: its name ends in a slash."""

    name: str
    path: str
    mtime_ns: int = 0
    size: int = 0
    executable: bool = False


Group = tuple[Entry, ...]


def cut(entries: Sequence[Entry]) -> list[Group]:
    """Return what goes into each part, no part empty."""
    if sum(entry.size for entry in entries) <= PART:
        return [tuple(entries)]
    large = PART
    while sum(entry.size > large for entry in entries) > MOST_ALONE:
        large *= 2
    small = [entry for entry in entries if entry.size <= large]
    number, total = 1, sum(entry.size for entry in small)
    while number < MOST_SHARED and number * PART < total:
        number *= 2
    shared: list[list[Entry]] = [[] for _ in range(number)]
    for entry in small:
        shared[zlib.crc32(entry.name.encode()) % number].append(entry)
    alone = [(entry,) for entry in entries if entry.size > large]
    return [*(tuple(group) for group in shared if group), *alone]


def pack(groups: Sequence[Group], packed: Mapping[Group, CodePart]) -> dict[Group, CodePart]:
    """Return each group's part; what is `packed` already is not read again."""
    missing = [group for group in groups if group not in packed]
    if len(missing) > 1:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = dict(zip(missing, pool.map(_pack, missing), strict=True))
    else:
        made = {group: _pack(group) for group in missing}
    return {group: made.get(group) or packed[group] for group in groups}


def _pack(group: Group) -> CodePart:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for entry in group:
            info = zipfile.ZipInfo(entry.name, EPOCH)
            if info.is_dir():
                info.external_attr = 0o40755 << 16 | 0x10
                archive.writestr(info, b"")
                continue
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if entry.executable else 0o100644) << 16
            with open(entry.path, "rb") as file:
                archive.writestr(info, file.read())
    data = buffer.getvalue()
    return CodePart(data, hashlib.sha256(data).hexdigest())
