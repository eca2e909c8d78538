"""What Shoal needs of a bucket.

Keys are whole keys, such as ``cluster/namespace/jobs/<id>/inputs/job``: no leading slash, no empty
part, no ``..``. Errors are `ObjectNotFound`, `BucketNotFound`, `AccessDenied`,
`StorageUnavailable` or plain `StorageError`, each naming bucket, endpoint and key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Protocol, runtime_checkable

from shoal.errors import StorageError

CHUNK = 1 << 20
"""Bytes read at a time while streaming."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object. `age_seconds` is by the bucket's own clock, as far as the bucket tells it."""

    key: str
    size: int
    modified: datetime
    age_seconds: float


@runtime_checkable
class Storage(Protocol):
    """A bucket; safe to use from several threads at once."""

    @property
    def where(self) -> str:
        """Return bucket and endpoint, for messages."""
        ...

    def check(self) -> None:
        """Raise the error that tells why the bucket can't be used, if it can't."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the object, replacing one that is there; readers see the old or the new one."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write the object only if there is none; False if there is one (or was, a moment ago)."""
        ...

    def put_stream(self, key: str, file: IO[bytes], size: int) -> None:
        """Write `size` bytes from `file`, in parts, with memory that does not grow with them."""
        ...

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on, fewer at the object's end."""
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object in pieces."""
        ...

    def info(self, key: str) -> ObjectInfo | None:
        """Return the object's size and age, None if there is none."""
        ...

    def renew(self, key: str) -> None:
        """Make the object as young as one that is written now, without sending it."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        ...

    def delete(self, *keys: str) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix`, in the order of their keys."""
        ...

    def presign_get(self, key: str, *, seconds: float) -> str:
        """Return a URL that reads the object for that long."""
        ...

    def presign_put(self, key: str, *, seconds: float) -> str:
        """Return a URL that writes the object; send ``If-None-Match: *`` along to only create."""
        ...


def checked(key: str) -> str:
    """Return `key`, or raise StorageError if it could mean something else than it says."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise StorageError(
            f"{key!r} can't be a key: a part is empty, '.' or '..', or has a backslash"
        )
    return key
