"""Blocks of pickled items: what `inputs/items` is made of.

A block is ``u32 count | count times u64 size | pickles``, big endian; a reader takes whole blocks
and checks their sha256 before it looks inside.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Union

_COUNT = struct.Struct(">I")

Bytes = Union[bytes, memoryview]


class BlockError(ValueError):
    """A block's bytes are not those that the job's index tells of."""


class BlockRef(NamedTuple):
    """One row of the index in `inputs/job`: where a block stands and what its digest is."""

    first: int
    items: int
    offset: int
    length: int
    sha256: str


def build(pickles: Iterable[bytes], size: int) -> Iterator[tuple[bytes, int]]:
    """Yield `(block, number of items)`; a block is closed once it holds `size` bytes."""
    held: list[bytes] = []
    total = 0
    for item in pickles:
        held.append(item)
        total += len(item) + 8
        if total >= size:
            yield _join(held), len(held)
            held, total = [], 0
    if held:
        yield _join(held), len(held)


def _join(held: Sequence[bytes]) -> bytes:
    sizes = struct.pack(f">{len(held)}Q", *map(len, held))
    return b"".join([_COUNT.pack(len(held)), sizes, *held])


def split(block: Bytes, ref: BlockRef) -> list[memoryview]:
    """Return the items of `block` after checking it against `ref`.

    Raises:
        BlockError: length, digest or layout is not what the index says.
    """
    view = memoryview(block)
    if len(view) != ref.length:
        raise BlockError(
            f"block of item {ref.first}: {ref.length} bytes expected, {len(view)} came"
        )
    digest = hashlib.sha256(view).hexdigest()
    if digest != ref.sha256:
        raise BlockError(f"block of item {ref.first}: sha256 {ref.sha256} expected, {digest} came")
    (count,) = _COUNT.unpack_from(view)
    if count != ref.items:
        raise BlockError(f"block of item {ref.first}: {ref.items} items expected, {count} came")
    sizes = struct.unpack_from(f">{count}Q", view, _COUNT.size)
    start = _COUNT.size + 8 * count
    if start + sum(sizes) != len(view):
        raise BlockError(f"block of item {ref.first}: its sizes do not add up")
    items = []
    for length in sizes:
        items.append(view[start : start + length])
        start += length
    return items
