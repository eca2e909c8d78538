"""Puts the parts of code into the bucket, each under its digest, and remembers what is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from shoal.deployment import CodePart, MirroredCode
from shoal.errors import StorageError, StorageUnavailable
from shoal.storage.base import Storage

GRACE_SECONDS = 86400.0
"""How long the operator leaves code that no resource names; older than a quarter is renewed."""

AT_ONCE = 8
"""Parts that go up at the same time."""

_log = logging.getLogger("shoal")
_uploaded: dict[tuple[str, str], float] = {}


def code_key(prefix: str, sha256: str) -> str:
    """Return where in the bucket a part is."""
    return f"{prefix}/code/{sha256}"


def upload(code: MirroredCode, storage: Storage, prefix: str) -> None:
    """Put each part at ``<prefix>/code/<sha256>``, unless it is there and young enough to stay."""
    missing = _unknown(code, storage, prefix)
    if len(missing) > 1:
        with ThreadPoolExecutor(min(AT_ONCE, len(missing))) as pool:
            sizes = list(pool.map(lambda part: _upload(part, storage, prefix), missing))
    else:
        sizes = [_upload(part, storage, prefix) for part in missing]
    if missing:
        _log.info("%s: %.1f MB of it uploaded", code.summary, sum(sizes) / 1e6)


def is_known(code: MirroredCode, storage: Storage, prefix: str) -> bool:
    """Tell whether this process has lately seen that all parts are there."""
    return not _unknown(code, storage, prefix)


def forget_uploads() -> None:
    """Look again next time what is in the bucket (after a job that did not find its code there)."""
    _uploaded.clear()


def _unknown(code: MirroredCode, storage: Storage, prefix: str) -> Sequence[CodePart]:
    """Return the parts of which this process has not lately seen that they are there."""
    # what was a quarter old when we looked is at most half as old when we look again
    since = time.monotonic() - GRACE_SECONDS / 4
    return [
        part
        for part in code.parts
        if _uploaded.get((storage.where, code_key(prefix, part.sha256)), float("-inf")) <= since
    ]


def _upload(part: CodePart, storage: Storage, prefix: str) -> int:
    """See to it that the part is there and stays; return how many bytes went up."""
    key = code_key(prefix, part.sha256)
    found = storage.info(key)
    sent = 0
    if found is None or found.size != part.size:
        storage.put(key, part.archive)
        sent = part.size
    elif found.age_seconds > GRACE_SECONDS / 4:
        try:
            storage.renew(key)
        except StorageUnavailable:
            raise
        except StorageError:  # the sweep was faster, or the bucket does not copy
            storage.put(key, part.archive)
            sent = part.size
    _uploaded[storage.where, key] = time.monotonic()
    return sent
