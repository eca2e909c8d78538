"""Object storage behind one protocol: `base` says what it can do, one module per provider does it.

Synchronous on purpose: the libraries are, and callers on an event loop use `asyncio.to_thread`.
A provider's library is imported when the first object of that provider is made.
"""

from __future__ import annotations

from shoal.storage.base import ObjectInfo, Storage
from shoal.storage.file import FileStorage
from shoal.storage.s3 import DENIED, S3Storage

__all__ = ["DENIED", "FileStorage", "ObjectInfo", "S3Storage", "Storage"]
