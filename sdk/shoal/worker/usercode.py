"""The user's code in a worker: its parts are fetched several at a time, and unpacked as one folder.

Fetching ahead is all that the threads do: what they could not read is left to the caller, who knows
what to say and whom to ask for another URL.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterable, Iterator, Sequence

from .objects import ObjectError, Objects

#: Parts that are fetched at the same time.
AT_ONCE = 4


def name_of(digests: Sequence[str]) -> str:
    """Return the name of the folder for code of these parts."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def fetched(urls: Sequence[str]) -> Iterator[bytes | None]:
    """Yield each object, None where it could not be read; a single one is not tried."""
    if len(urls) == 1:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    own = threading.local()

    def get(url: str) -> bytes | None:
        if not hasattr(own, "objects"):
            own.objects = Objects()
        try:
            data: bytes = own.objects.get(url)
        except ObjectError:
            return None
        return data

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(get, urls)
    finally:
        pool.shutdown(cancel_futures=True)


def unpack(parts: Iterable[bytes], folder: str) -> None:
    """Unpack zips into `folder`, which appears as a whole or not at all."""
    import shutil
    import zipfile

    shutil.rmtree(folder + ".part", ignore_errors=True)
    os.makedirs(folder + ".part")
    for part in parts:
        with zipfile.ZipFile(io.BytesIO(part)) as archive:
            archive.extractall(folder + ".part")
            for entry in archive.infolist():  # which leaves this to us
                if entry.external_attr >> 16 & 0o100 and not entry.is_dir():
                    os.chmod(os.path.join(folder + ".part", entry.filename), 0o755)
    os.replace(folder + ".part", folder)
