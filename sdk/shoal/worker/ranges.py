"""Sets of task indexes, kept as half-open ranges.

A map of a million items is one range; claims, what a worker still holds, and what is left to do are
all a few ranges, on the wire ``[[start, stop], ...]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

Range = tuple[int, int]


def of(indexes: Iterable[int]) -> list[Range]:
    """Return the ranges that hold `indexes`, in the order given, neighbours joined."""
    ranges: list[Range] = []
    for index in indexes:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges


def parse(wire: Iterable[Sequence[int]]) -> list[Range]:
    """Return ranges read from JSON.

    Raises:
        ValueError: a pair that is not ``0 <= start < stop``.
    """
    ranges = [(int(start), int(stop)) for start, stop in wire]
    for start, stop in ranges:
        if not 0 <= start < stop:
            raise ValueError(f"[{start}, {stop}] is no range of task indexes")
    return ranges


def count(ranges: Iterable[Range]) -> int:
    """Return how many indexes the ranges hold."""
    return sum(stop - start for start, stop in ranges)


def each(ranges: Iterable[Range]) -> Iterator[int]:
    """Yield every index, in order of the ranges."""
    for start, stop in ranges:
        yield from range(start, stop)


def take(ranges: list[Range], most: int) -> list[Range]:
    """Remove up to `most` indexes from the front of `ranges` and return them."""
    taken: list[Range] = []
    while ranges and most > 0:
        start, stop = ranges[0]
        if stop - start <= most:
            taken.append(ranges.pop(0))
            most -= stop - start
        else:
            taken.append((start, start + most))
            ranges[0] = (start + most, stop)
            most = 0
    return taken
