"""Shows what tasks printed: as it is for a single call, whole lines with the task's index for maps.

Output comes in pieces that end anywhere, in the middle of a line or of a character.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Sequence

from shoal.machinery import Output

_utf8 = codecs.getincrementaldecoder("utf-8")


LONGEST_LINE = 1 << 16
"""Characters after which a line that does not end (a progress bar, say) is written as one."""

Source = tuple[int, int, str]
"""Task, attempt, Pod: two Pods may have the same attempt, after a disruption or as copies."""


class Printer:
    """Takes pieces of output and writes text, by default to stdout.

    What is kept of a source is what is not whole yet, nothing once it has ended with a line.
    """

    def __init__(self, *, prefixed: bool, write: Callable[[str], object] | None = None) -> None:
        self._prefixed, self._write = prefixed, write
        self._decoders: dict[Source, codecs.IncrementalDecoder] = {}
        self._lines: dict[Source, str] = {}

    def show(self, outputs: Sequence[Output]) -> None:
        """Write what is whole."""
        for output in outputs:
            source = (output.index, output.attempt, output.pod)
            text = self._decoded(source, output.text)
            self._out(self._whole_lines(source, text) if self._prefixed else text)
        self._flush()

    def close(self) -> None:
        """Write what is left of lines that never ended."""
        for source, rest in self._lines.items():
            self._out(f"{_prefix(source)}{rest}\n")
        self._lines.clear()
        self._flush()

    def _decoded(self, source: Source, data: bytes) -> str:
        decoder = self._decoders.pop(source, None) or _utf8("replace")
        text = decoder.decode(data)
        if decoder.getstate()[0]:  # the beginning of a character
            self._decoders[source] = decoder
        return text

    def _whole_lines(self, source: Source, text: str) -> str:
        """Return the lines that have ended, and keep what follows them."""
        *lines, rest = (self._lines.pop(source, "") + text).split("\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        if rest:
            self._lines[source] = rest
        prefix = _prefix(source)
        return "".join(f"{prefix}{line}\n" for line in lines)

    def _out(self, text: str) -> None:
        if self._write is not None:
            self._write(text)
        else:
            sys.stdout.write(text)

    def _flush(self) -> None:
        if self._write is None:
            sys.stdout.flush()


def _prefix(source: Source) -> str:
    index, attempt, _ = source
    return f"[task {index}] " if attempt == 1 else f"[task {index}, attempt {attempt}] "
