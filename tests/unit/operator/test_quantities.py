"""Amounts are multiplied exactly, and written as Kubernetes writes them."""

from __future__ import annotations

import pytest

from shoal_operator.quantities import times, whole


@pytest.mark.parametrize(
    ("text", "factor", "product"),
    [
        ("512Mi", 1, "512Mi"),
        ("512Mi", 2, "1Gi"),
        ("512Mi", 3, "1536Mi"),
        ("1.5Gi", 2, "3Gi"),
        ("1.5Gi", 3, "4608Mi"),
        ("0.5", 2, "1"),
        ("0.5", 3, "1500m"),
        ("500M", 2, "1G"),
        ("1G", 3, "3G"),
        ("100m", 10, "1"),
        ("1000", 3, "3k"),
        ("1024", 2, "2048"),
        ("2048Ki", 1, "2Mi"),
        ("0.1Gi", 2, "214748364800m"),
        ("0", 7, "0"),
        ("8Ei", 100, "800Ei"),
        ("1e3", 2, "2k"),
        ("1.073741824e+09", 1, "1073741824"),
    ],
)
def test_a_multiple_is_exact_and_has_one_form(text: str, factor: int, product: str) -> None:
    assert times(text, factor) == product


@pytest.mark.parametrize(
    ("text", "amount"),
    [("512Mi", 536870912), ("1k", 1000), ("1.5Ki", 1536), ("500m", 1), ("0", 0), ("7", 7)],
)
def test_an_amount_in_bytes(text: str, amount: int) -> None:
    assert whole(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "1gi", "-1", "1 Gi", "1e", "Gi"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        times(text, 2)
