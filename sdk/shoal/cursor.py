"""Where a reader of a run's results stands: a short text, to be kept until it reads on."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import NamedTuple

from shoal.errors import ConfigurationError
from shoal.ledger import Entry

_DIGEST_SIZE = 32


class Cursor(NamedTuple):
    """Behind some record of the ledger.

    Attributes:
        length: how many entries were begun.
        digest: of the last one of them, hexadecimal.
        left: how many records of that one were not read yet.
        seen: how many records were read in all.
    """

    length: int
    digest: str
    left: int
    seen: int

    def __str__(self) -> str:
        return f"{self.length}.{self.left}.{self.seen}.{_short(self.digest)}"

    @classmethod
    def behind(cls, entry: Entry, position: int, seen: int) -> Cursor:
        """Return the cursor behind the entry's record at `position`, the `seen`-th of all."""
        return cls(entry.n + 1, entry.digest, len(entry.records) - position - 1, seen)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that was written as `text`.

        Raises:
            ConfigurationError: it is none.
        """
        try:
            length, left, seen, digest = text.split(".")
            raw = base64.b64decode(digest + "=", altchars=b"-_", validate=True)
            cursor = cls(int(length), raw.hex(), int(left), int(seen))
        except (ValueError, binascii.Error, AttributeError):
            cursor = None
        if cursor is None or len(raw) != _DIGEST_SIZE or min(cursor[0] - 1, *cursor[2:]) < 0:
            raise ConfigurationError(
                f"{text!r} is no cursor: pass TaskResult.cursor of the last task that was processed"
            )
        return cursor


@lru_cache(maxsize=16)  # each entry has many records
def _short(digest: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode()
