"""Turns what pydantic found into one line that names the field and the remedy.

pydantic's own error is several lines with Python's names and a link. A user sees the field as it
stands in the manifest (`spec.function.payload.sha256`), what is wrong with it, and what to write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from shoal.errors import ConfigurationError

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
#: No part may begin with "-", which programs would take for an option.
GIT_URL = (
    r"^(https?://[^\s@/-][^\s@/]*/\S+"
    r"|ssh://([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_][^\s/@]*/\S+"
    r"|[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9_][A-Za-z0-9._-]*:[^\s-]\S*)$"
)
GIT_BRANCH = r"^[^-\s~^:?*\[\\][^\s~^:?*\[\\]*$"
GIT_COMMIT = r"^[0-9a-f]{4,64}$"
CONDA_CHANNEL = r"^[A-Za-z0-9][^\s,]*$"
CONDA_URL = r"^https?://[^\s#]+/[^\s/#]+/[^\s/#]+\.(conda|tar\.bz2)(#(sha256:)?[0-9A-Fa-f]+)?$"
OBJECT_NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"

Problem = tuple[tuple[str | int, ...], str]

_PATTERNS = {
    OBJECT_NAME: "must be lower-case letters, digits, '-' and '.', and begin and end with a "
    "letter or digit",
    QUANTITY: 'must be an amount such as 2, "500m" or "1.5Gi"',
    GIT_URL: "must be such as https://host/org/repo, ssh://git@host/org/repo or "
    "git@host:org/repo, without a password",
    GIT_BRANCH: "must be the name of a branch or tag",
    GIT_COMMIT: "must be a commit in hexadecimal digits",
    CONDA_CHANNEL: "must be a channel's URL, or a name such as conda-forge",
    CONDA_URL: "must be the URL of a package, such as "
    "https://HOST/CHANNEL/linux-64/NAME-VERSION-BUILD.conda, with #MD5 or #sha256:SHA256 or none",
    r"^[a-f0-9]{64}$": "must be a SHA-256 digest: 64 lower-case hexadecimal digits",
    r"^[a-z0-9]{20,40}$": "must be 20 to 40 lower-case letters and digits",
    r"^[^\s.:]+(\.[^\s.:]+)+$": 'must be an importable name such as "package.module.function"',
    r"^3\.(9|[1-9][0-9])$": 'must be a minor version of Python, 3.9 or newer, such as "3.12"',
}


class InvalidResource(ConfigurationError):
    """The API server would refuse this resource; `problems` has each field's path and fault."""

    def __init__(self, owner: str, problems: Iterable[Problem]) -> None:
        self.owner = owner
        self.problems = list(problems)
        super().__init__(f"{owner}: " + "; ".join(_line(p) for p in self.problems))


def explain(owner: str, error: ValidationError) -> InvalidResource:
    """Make the one line; `owner` is the resource's full name or the model's."""
    return InvalidResource(owner, _problems(error))


def field_path(location: Iterable[str | int]) -> str:
    """`("spec", "command", 0)` as it stands in a manifest: `spec.command[0]`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _problems(error: ValidationError) -> list[Problem]:
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, InvalidResource):
            found += [((*location, *deeper), text) for deeper, text in inner.problems]
        else:
            found.append((location + tuple(detail.get("ctx", {}).get("at", ())), _remedy(detail)))
    return found


def _line(problem: Problem) -> str:
    path, text = field_path(problem[0]), problem[1]
    return f"{path}: {text}" if path else text


def _remedy(detail: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    match kind:
        case "missing":
            return "is required: set it"
        case "extra_forbidden":
            return "is not a field of this kind: remove it, or check its spelling"
        case "rule":
            return str(detail["msg"])
        case "invalid-json-value":
            return "must be JSON (text, numbers, true, false, null, lists, objects)"
    text = {
        "string_pattern_mismatch": _PATTERNS.get(
            context.get("pattern", ""), f"must match {context.get('pattern')}"
        ),
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "string_too_short": f"must have at least {context.get('min_length')} characters",
        "string_too_long": f"must have at most {context.get('max_length')} characters",
        "too_short": f"must have at least {context.get('min_length')} elements",
        "too_long": f"must have at most {context.get('max_length')} elements",
        "literal_error": f"must be one of {context.get('expected')}",
        "value_error": str(context.get("error", detail["msg"])),
    }.get(kind, detail["msg"])
    return f"{text} (it is {_short(detail['input'])})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
