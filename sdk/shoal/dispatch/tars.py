"""Folders as a tar that is made while it is sent, so that it needs neither memory nor disk."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

PIECE = 1 << 20


class Tar:
    """The files of some folders, each under its folder's name."""

    def __init__(self, *folders: Path) -> None:
        """Look which files there are; they don't change any more."""
        self._members = [
            (path, self._entry(path, folder))
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        ]

    @property
    def size(self) -> int:
        """The tar's size in bytes."""
        blocks = sum(len(_header(entry)) + _padded(entry.size) for _, entry in self._members)
        return blocks + 2 * tarfile.BLOCKSIZE

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the tar's bytes, piece by piece."""
        for path, entry in self._members:
            yield _header(entry)
            with path.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE):
                    yield piece
            yield bytes(_padded(entry.size) - entry.size)
        yield bytes(2 * tarfile.BLOCKSIZE)

    @staticmethod
    def _entry(path: Path, folder: Path) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())
        entry.size = path.stat().st_size
        return entry


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
