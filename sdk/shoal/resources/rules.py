"""Rules across fields, each written once for both sides.

A `Rule` holds the CEL that the API server evaluates and the same check in Python, so that the SDK
refuses at submit what kubectl is refused at apply, in the same words. `immutable` makes the rules
about changes; only the API server sees the old object, so they have no Python side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule; the error points to `field` (or the whole), `holds` is the same in Python."""

    cel: str
    message: str
    field: str = ""
    holds: Callable[[Any], bool] | None = None

    def schema(self) -> dict[str, str]:
        """Render an element of `x-kubernetes-validations`."""
        schema = {"rule": self.cel, "message": self.message}
        if self.field:
            schema["fieldPath"] = f".{self.field}"
        return schema


def immutable(fields: Sequence[str], what: str) -> tuple[Rule, ...]:
    """Make the rules that `fields` (manifest names) can be neither set, changed nor removed.

    They stand on the parent, since a rule on an optional field is not evaluated where the field
    comes or goes. `dyn` lets CEL see free JSON (args, items), which has no type to check against.
    """
    return tuple(
        Rule(
            f"has(dyn(self).{name}) == has(dyn(oldSelf).{name}) && "
            f"(!has(dyn(self).{name}) || dyn(self).{name} == dyn(oldSelf).{name})",
            f"{name} can't be changed: delete this {what} and create a new one",
            name,
        )
        for name in fields
    )


def only_one_of(*fields: str, at_least_one: bool = True) -> Rule:
    """Make the rule that exactly one (or at most one) of the optional `fields` is set."""
    count = " + ".join(f"(has(dyn(self).{camel(name)}) ? 1 : 0)" for name in fields)
    names = [camel(name) for name in fields]
    words = f"{', '.join(names[:-1])} and {names[-1]}"
    low = 1 if at_least_one else 0

    def holds(model: Any) -> bool:
        return low <= sum(getattr(model, name) is not None for name in fields) <= 1

    return Rule(
        f"{count} == 1" if at_least_one else f"{count} <= 1",
        f"set exactly one of {words}" if at_least_one else f"set at most one of {words}",
        holds=holds,
    )


def camel(name: str) -> str:
    """`max_attempts` as it stands in a manifest: `maxAttempts`."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
