"""Where a reader of a run's results stands: a short text, to be kept until it reads on."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import NamedTuple

from shoal.errors import ConfigurationError
from shoal.ledger import GENESIS, Entry

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
        digest = base64.urlsafe_b64encode(bytes.fromhex(self.digest)).rstrip(b"=").decode()
        return f"{self.length}.{self.left}.{self.seen}.{digest}"

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


def behind_each(entry: Entry, seen: int) -> Iterator[str]:
    """Yield the cursor behind each of the entry's records, before which there were `seen`."""
    count = len(entry.records)
    length, _, _, digest = str(Cursor(entry.n + 1, entry.digest or GENESIS, 0, 0)).split(".")
    for left in range(count - 1, -1, -1):
        seen += 1
        yield f"{length}.{left}.{seen}.{digest}"
