"""mapjobs.shoal.dev: one function over many items."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .function import MapFunction
from .kinds import MAP_JOB, Kind
from .model import Model
from .resource import STATUS_STAYS, Resource
from .rules import Rule, immutable, only_one_of
from .run import COMMON_IMMUTABLE, RunSpec, RunStatus
from .values import Json


class PackedItems(Model):
    """Items that the SDK pickled and uploaded."""

    count: int = Field(ge=1, le=100_000_000, description="Number of items.")


class Items(Model):
    """The items: inline as JSON, or packed in the bucket."""

    rules: ClassVar[tuple[Rule, ...]] = (only_one_of("inline", "packed"),)
    inline: list[Json] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Up to 1000 items as JSON; the function gets one as its argument. "
        "Kubernetes stores 1.0 as 1.",
    )
    packed: PackedItems | None = Field(
        default=None,
        description="Items that the SDK uploaded; function.payload holds or names them.",
    )


class MapJobSpec(RunSpec):
    """What to run over which items.

    Only parallelism, suspend, cancel, activeDeadlineSeconds and ttlSecondsAfterFinished can be
    changed.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.items.packed) == has(self.function.payload)",
            "items.packed goes with function.payload, and items.inline with function.name",
            holds=lambda s: (s.items.packed is None) == (s.function.payload is None),
        ),
        Rule(
            "has(self.id) || !has(self.function.payload)",
            "function.payload needs spec.id, under which the inputs were uploaded: set id",
            holds=lambda s: s.id is not None or s.function.payload is None,
        ),
        *immutable((*COMMON_IMMUTABLE, "function", "items", "speculation"), "mapjobs.shoal.dev"),
    )
    function: MapFunction = Field(description="The function to call with each item.")
    items: Items = Field(description="The items. Exactly one of inline and packed is set.")
    parallelism: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="Workers at one time. Default: half the items plus one. The operator caps it "
        "(condition ParallelismCapped).",
    )
    speculation: bool = Field(
        default=False,
        description="Whether idle workers run a second copy of the last, slow tasks; the first "
        "result counts. Only for functions that may run twice at once.",
    )


class MapJobStatus(RunStatus):
    """The state of a MapJob."""

    results_file: str | None = Field(
        default=None,
        description="Key in the bucket of results.jsonl, one line an item, once the map has ended.",
    )


class MapJob(Resource):
    """One function over many items, on many Pods."""

    names: ClassVar[Kind] = MAP_JOB
    rules: ClassVar[tuple[Rule, ...]] = (*Resource.rules, STATUS_STAYS)
    kind: Literal["MapJob"] = "MapJob"
    spec: MapJobSpec = Field(description="What to run over which items.")
    status: MapJobStatus | None = Field(
        default=None, description="What the operator observed. Nobody else writes it."
    )
