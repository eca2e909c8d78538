"""Amounts as Kubernetes writes them, multiplied exactly. Pure.

Workers with n times the memory are found by their template, so twice "512Mi" must be the same text
each time: the one that Kubernetes itself would write, a whole number with the largest suffix.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_TEXT = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|E|[KMGTPE]i|[eE][+-]?\d{1,2})?")
_DECIMAL = {"E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3}
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_UNITS = {**_DECIMAL, **dict(reversed(_BINARY.items())), "": 1}


def whole(text: str) -> int:
    """The amount in its plain unit (bytes of memory, CPUs), rounded up.

    Raises:
        ValueError: the text is no amount such as 2, "500m" or "1.5Gi".
    """
    return math.ceil(_read(text)[0])


def times(text: str, factor: int) -> str:
    """`factor` times the amount, as Kubernetes would write it: twice "512Mi" is "1Gi".

    Raises:
        ValueError: the text is no amount such as 2, "500m" or "1.5Gi".
    """
    amount, suffix = _read(text)
    amount *= factor
    family = _BINARY if suffix in _BINARY else _DECIMAL
    for name, unit in _UNITS.items():
        if (name in family or not name) and amount and amount % unit == 0:
            return f"{amount / unit}{name}"
    return f"{math.ceil(amount * 1000)}m" if amount else "0"


def _read(text: str) -> tuple[Fraction, str]:
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is no amount such as 2, "500m" or "1.5Gi"')
    suffix = found[2] or ""
    if suffix in _UNITS:
        return Fraction(found[1]) * _UNITS[suffix], suffix
    power = -3 if suffix == "m" else int(suffix[1:])
    return Fraction(found[1]) * Fraction(10) ** power, suffix
