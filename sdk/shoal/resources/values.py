"""The kinds of values that fields hold: quantities, digests, names, free JSON, times.

Each is a type with its check for Python and its JSON schema for the API server side by side.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
)

from .validation import OBJECT_NAME, QUANTITY

_FREE = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


def _quantity_text(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return format(value, ".6f").rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _survives_json(value: Any) -> Any:
    """Refuse numbers that the API server would change silently."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds NaN or infinity, which JSON has no form for")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(
            "holds a whole number beyond 64 bits, which Kubernetes would round: pass text"
        )
    if isinstance(value, list):
        for element in value:
            _survives_json(element)
    elif isinstance(value, dict):
        for element in value.values():
            _survives_json(element)
    return value


Quantity = Annotated[
    str,
    BeforeValidator(_quantity_text),
    StringConstraints(pattern=QUANTITY, max_length=32),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY,
            "maxLength": 32,
        }
    ),
]
"""An amount as Kubernetes writes it, such as 500m or 2Gi. Python numbers are taken as they are."""

Json = Annotated[JsonValue, AfterValidator(_survives_json), WithJsonSchema(_FREE)]
"""Any JSON. Kubernetes stores 1.0 as 1, and `kubectl apply` drops a null inside an object."""

JsonObject = Annotated[
    dict[str, JsonValue],
    AfterValidator(_survives_json),
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""A JSON object with any values."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[a-f0-9]{64}$", max_length=64)]
JobId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{20,40}$", max_length=40)]
FunctionName = Annotated[
    str, StringConstraints(pattern=r"^[^\s.:]+(\.[^\s.:]+)+$", max_length=1024)
]
PythonVersion = Annotated[str, StringConstraints(pattern=r"^3\.(9|[1-9][0-9])$", max_length=4)]
ImagePath = Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=1024)]
ImagePython = Annotated[
    str, StringConstraints(pattern=r"^3\.(9|[1-9][0-9])(\.[0-9]{1,3})?$", max_length=8)
]
ObjectName = Annotated[
    str,
    StringConstraints(pattern=OBJECT_NAME, min_length=1, max_length=253),
]
"""A name of a Kubernetes object (an RFC 1123 subdomain)."""
ImageName = Annotated[str, StringConstraints(pattern=r"^\S+$", min_length=1, max_length=1024)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$", max_length=2048)]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path relative to the code's root, without ..")
    return path


RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    AfterValidator(_inside),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "x-kubernetes-validations": [
                {
                    "rule": "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
                    "message": "must be a path relative to the code's root, without ..",
                }
            ],
        }
    ),
]
Size = Annotated[int, Field(ge=0)]
"""A number of bytes."""
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
"""A time span of at least a second and at most a year."""
Time = AwareDatetime
"""A moment; RFC 3339 in manifests."""
