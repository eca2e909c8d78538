"""The outcome of one task attempt, and how many of them travel together.

A worker's report and a ledger entry carry the same columns, so that the dispatcher moves results
from one to the other without looking inside. Ten thousand results of the same kind cost a few
numbers: a column in which all values are equal is sent as that one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from typing import Any, NamedTuple

from . import ranges

SUCCEEDED = "SUCCEEDED"
PYTHON_EXCEPTION = "PYTHON_EXCEPTION"
NON_ZERO_RETURN_CODE = "NON_ZERO_RETURN_CODE"
RESULT_CANNOT_BE_PICKLED = "RESULT_CANNOT_BE_PICKLED"
OUT_OF_MEMORY = "OUT_OF_MEMORY"
TIMED_OUT = "TIMED_OUT"
WORKER_LOST = "WORKER_LOST"

#: More results than this never travel together.
MOST = 1 << 22

#: How a record's bytes are to be read.
PICKLE = "pickle"
JSON = "json"  # a JSON document
ERROR = "error"  # JSON [type, message, traceback]
EXIT = "exit"  # JSON {"returnCode": int, "lastLines": str}


class Ref(NamedTuple):
    """An object in the bucket that holds a result too large to travel inline."""

    key: str
    sha256: str
    size: int


class Record(NamedTuple):
    """The outcome of one attempt of a task (its index): bytes inline in `data`, or in `ref`.

    `memory` is the attempt's peak in MiB, 0 where nobody could tell.
    """

    task: int
    attempt: int
    state: str
    encoding: str
    data: bytes | memoryview
    ref: Ref | None = None
    memory: int = 0


def _column(values: list[Any]) -> Any:
    """Return one value where all are equal, else the list."""
    first = values[0]
    return first if all(value == first for value in values) else values


def _values(column: Any, count: int) -> Sequence[Any]:
    """Undo `_column`."""
    if not isinstance(column, list):
        return [column] * count
    if len(column) != count:
        raise ValueError(f"a column holds {len(column)} values for {count} results")
    return column


def encode(records: Sequence[Record]) -> tuple[dict[str, Any], bytes]:
    """Return the columns of `records` and their inline bytes, one after the other."""
    if not records:
        return {"count": 0}, b""
    columns: dict[str, Any] = {
        "count": len(records),
        "index": ranges.of(record.task for record in records),
        "attempt": _column([record.attempt for record in records]),
        "state": _column([record.state for record in records]),
        "encoding": _column([record.encoding for record in records]),
        "size": _column([len(record.data) for record in records]),
    }
    refs = {str(n): list(record.ref) for n, record in enumerate(records) if record.ref}
    if refs:
        columns["ref"] = refs
    memory = _column([record.memory for record in records])
    if memory:
        columns["memory"] = memory
    return columns, b"".join(record.data for record in records)


def decode(columns: dict[str, Any], data: bytes | memoryview) -> Iterable[Record]:
    """Return the records that `encode` was given.

    Raises:
        ValueError: columns and bytes do not fit each other.
    """
    count = int(columns["count"])
    if not count:
        return []
    tasks = ranges.parse(columns["index"])
    if count > MOST or ranges.count(tasks) != count:  # before anything is expanded
        raise ValueError(f"{count} results cannot be those of {ranges.count(tasks)} tasks")
    indexes = list(ranges.each(tasks))
    sizes = _values(columns["size"], count)
    if len(indexes) != count or sum(sizes) != len(data):
        raise ValueError("the columns of results do not fit the bytes that came with them")
    refs = {int(n): Ref(*ref) for n, ref in columns.get("ref", {}).items()}
    attempts = _values(columns["attempt"], count)
    states = _values(columns["state"], count)
    encodings = _values(columns["encoding"], count)
    view = memoryview(data)
    stops = list(accumulate(sizes))
    pieces = [view[stop - size : stop] for stop, size in zip(stops, sizes)]
    references = map(refs.get, range(count)) if refs else repeat(None)
    memory = _values(columns.get("memory", 0), count)
    return list(map(Record, indexes, attempts, states, encodings, pieces, references, memory))
