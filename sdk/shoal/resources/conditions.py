"""Conditions as Kubernetes has them (metav1.Condition), so that `kubectl wait` works on ours.

Types on jobs.shoal.dev and mapjobs.shoal.dev: Complete, Failed, Finished (either of them), Running,
Suspended, WorkersReady, WorkersMissing, ParallelismCapped; on deployments.shoal.dev: Available,
Progressing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from .model import StatusModel
from .values import Time


class Condition(StatusModel):
    """One observation about a resource, and since when it holds."""

    type: str = Field(
        max_length=316, description="What the condition is about, such as Complete or Failed."
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether it holds: True, False or Unknown."
    )
    reason: str = Field(
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Why, in one word, from a closed list that the documentation explains.",
    )
    message: str = Field(max_length=32768, description="Why, in a sentence, and what to do next.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that the condition was made for."
    )


Conditions = Annotated[
    list[Condition],
    Field(
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }
    ),
]


def find_condition(conditions: Sequence[Condition], type: str) -> Condition | None:
    """Return the condition of that type, or None."""
    return next((c for c in conditions if c.type == type), None)
