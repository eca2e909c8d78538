"""A folder as a bucket (``file://``), for the `Local` host and for tests.

An object appears whole or not at all: it is written beside and then renamed, or linked where it
must not exist yet (`link` refuses an existing name, as O_EXCL does, but with the content in place).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import unquote, urlsplit

from shoal.errors import AccessDenied, BucketNotFound, ObjectNotFound, StorageError
from shoal.storage.base import CHUNK, ObjectInfo, checked

T = TypeVar("T")
UNFINISHED = ".unfinished"


class FileStorage:
    """The folder `root`, a path or a ``file://`` URL; it must exist unless `make` is set."""

    def __init__(self, root: str | os.PathLike[str], *, make: bool = False) -> None:
        text = os.fspath(root)
        self.root = Path(unquote(urlsplit(text).path) if text.startswith("file://") else text)
        if make:
            self.root.mkdir(parents=True, exist_ok=True)

    @property
    def where(self) -> str:
        """Return the folder."""
        return str(self.root)

    def check(self) -> None:
        """Raise BucketNotFound or AccessDenied if the folder can't be used."""
        if not self.root.is_dir():
            raise BucketNotFound(f"The folder {self.root} does not exist: create it")
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise AccessDenied(f"The folder {self.root} is not writable for this user")

    def put(self, key: str, data: bytes) -> None:
        """Write the object, replacing one that is there."""
        self._write(key, lambda file: file.write(data), os.replace)

    def create(self, key: str, data: bytes) -> bool:
        """Write the object only if there is none."""
        try:
            self._write(key, lambda file: file.write(data), os.link)
        except FileExistsError:
            return False
        return True

    def put_stream(self, key: str, file: IO[bytes], size: int) -> None:
        """Write `size` bytes from `file`."""

        def copy(target: IO[bytes]) -> None:
            left = size
            while left > 0 and (piece := file.read(min(CHUNK, left))):
                target.write(piece)
                left -= len(piece)
            if left:
                raise StorageError(f"{key}: the stream ended {left} bytes early")

        self._write(key, copy, os.replace)

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        return self._read(key, lambda file: file.read())

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return a part of the object."""

        def part(file: IO[bytes]) -> bytes:
            file.seek(offset)
            return file.read(length)

        return self._read(key, part)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object in pieces."""
        file = self._read(key, lambda opened: os.fdopen(os.dup(opened.fileno()), "rb"))
        with file:
            while piece := file.read(CHUNK):
                yield piece

    def info(self, key: str) -> ObjectInfo | None:
        """Return the object's size and age."""
        try:
            return self._info(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def renew(self, key: str) -> None:
        """Set the file's time to now."""
        self._read(key, lambda file: os.utime(file.fileno()))

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        return self._path(key).is_file()

    def delete(self, *keys: str) -> None:
        """Remove objects, and the folders that are empty then."""
        for key in keys:
            path = self._path(key)
            try:
                path.unlink(missing_ok=True)
                for folder in path.relative_to(self.root).parents:
                    if folder.parts:
                        (self.root / folder).rmdir()
            except OSError:
                continue  # a folder that is not empty, or that another delete has removed

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix`."""
        start = self.root / prefix.rpartition("/")[0]
        found = [
            path
            for folder, _, names in os.walk(start)
            for path in (Path(folder, name) for name in names)
            if (key := self._key(path)).startswith(prefix) and not key.startswith(UNFINISHED)
        ]
        for path in sorted(found, key=self._key):
            try:
                yield self._info(path)
            except FileNotFoundError:
                continue  # deleted since we looked

    def presign_get(self, key: str, *, seconds: float) -> str:
        """Return the file's URL; who may read the folder may read it, for ever."""
        return self._path(key).as_uri()

    def presign_put(self, key: str, *, seconds: float) -> str:
        """Return the file's URL; its folder exists then."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _info(self, path: Path) -> ObjectInfo:
        stat = path.stat()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        return ObjectInfo(self._key(path), stat.st_size, modified, time.time() - stat.st_mtime)

    def _read(self, key: str, read: Callable[[IO[bytes]], T]) -> T:
        try:
            with open(self._path(key), "rb") as file:
                return read(file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self.check()
            raise ObjectNotFound(f"{key} is not in {self.root}") from None
        except PermissionError as error:
            raise AccessDenied(f"{key} in {self.root} is not readable for this user") from error

    def _write(
        self,
        key: str,
        fill: Callable[[IO[bytes]], object],
        publish: Callable[[str, Path], object],
    ) -> None:
        path = self._path(key)
        self.check()
        unfinished = self.root / UNFINISHED
        unfinished.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=unfinished)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fill(file)
            while True:
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    publish(name, path)
                    return
                except FileNotFoundError:
                    continue  # a delete took the folder between the two lines
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise
            raise StorageError(f"{key} can't be written in {self.root}: {error}") from error
        finally:
            if os.path.exists(name):
                os.unlink(name)

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.root, ignore_errors=True)
