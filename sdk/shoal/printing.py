"""Shows what tasks printed: as it is for a single call, whole lines with the task's index for maps.

Output comes in pieces that end anywhere, in the middle of a line or of a character.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Sequence

from shoal.machinery import Output


class Printer:
    """Takes pieces of output and writes text, by default to stdout."""

    def __init__(self, *, prefixed: bool, write: Callable[[str], object] | None = None) -> None:
        self._prefixed, self._write = prefixed, write
        self._decoders: dict[tuple[int, int], codecs.IncrementalDecoder] = {}
        self._lines: dict[tuple[int, int], str] = {}

    def show(self, outputs: Sequence[Output]) -> None:
        """Write what is whole."""
        for output in outputs:
            key = (output.index, output.attempt)
            if key not in self._decoders:
                self._decoders[key] = codecs.getincrementaldecoder("utf-8")("replace")
            text = self._decoders[key].decode(output.text)
            if self._prefixed:
                *lines, rest = (self._lines.get(key, "") + text).split("\n")
                self._lines[key] = rest
                text = "".join(f"{_prefix(key)}{line}\n" for line in lines)
            self._out(text)
        self._flush()

    def close(self) -> None:
        """Write what is left of lines that never ended."""
        for key, rest in self._lines.items():
            if rest:
                self._out(f"{_prefix(key)}{rest}\n")
        self._lines.clear()
        self._flush()

    def _out(self, text: str) -> None:
        if self._write is not None:
            self._write(text)
        else:
            sys.stdout.write(text)

    def _flush(self) -> None:
        if self._write is None:
            sys.stdout.flush()


def _prefix(key: tuple[int, int]) -> str:
    index, attempt = key
    return f"[task {index}] " if attempt == 1 else f"[task {index}, attempt {attempt}] "
