"""Outcomes come out of their columns as they went in."""

from __future__ import annotations

import pytest

from shoal.worker import records
from shoal.worker.records import Record, Ref, decode, encode

OUTCOMES = [
    Record(3, 1, records.SUCCEEDED, records.PICKLE, b"three", None, 17),
    Record(4, 2, records.TIMED_OUT, records.ERROR, b"[]"),
    Record(9, 1, records.SUCCEEDED, records.PICKLE, b"", Ref("key", "0" * 64, 9), 4_000),
]


@pytest.mark.parametrize("count", range(4))
def test_round_trip(count: int) -> None:
    columns, data = encode(OUTCOMES[:count])
    assert list(decode(columns, data)) == OUTCOMES[:count]


def test_memory_that_nobody_measured_takes_no_column() -> None:
    columns, _ = encode([record._replace(memory=0) for record in OUTCOMES])
    assert "memory" not in columns


def test_equal_memory_is_one_number() -> None:
    columns, _ = encode([record._replace(memory=25) for record in OUTCOMES])
    assert columns["memory"] == 25


def test_a_column_of_another_length_is_refused() -> None:
    columns, data = encode(OUTCOMES)
    with pytest.raises(ValueError, match="a column holds 2 values for 3 results"):
        decode({**columns, "memory": [1, 2]}, data)
