"""jobs.shoal.dev: one call of a function, or one command."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .function import Function, Payload
from .kinds import JOB, Kind
from .resource import STATUS_STAYS, Resource
from .rules import Rule, immutable, only_one_of
from .run import COMMON_IMMUTABLE, RunError, RunSpec, RunStatus
from .values import Json

_UPLOADED = "needs spec.id, under which the inputs were uploaded: set id"


class JobSpec(RunSpec):
    """What to run, and how.

    Only suspend, cancel, activeDeadlineSeconds and ttlSecondsAfterFinished can be changed.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        only_one_of("function", "command"),
        Rule(
            "!has(self.contextVariables) || has(self.command)",
            "contextVariables go with command: remove them",
            holds=lambda s: s.context_variables is None or s.command is not None,
        ),
        Rule(
            "has(self.id) || !(has(self.contextVariables) || "
            "(has(self.function) && has(self.function.payload)))",
            f"function.payload or contextVariables {_UPLOADED}",
            holds=lambda s: (
                s.id is not None or not (s.context_variables or (s.function and s.function.payload))
            ),
        ),
        *immutable(
            (*COMMON_IMMUTABLE, "function", "command", "contextVariables"), "jobs.shoal.dev"
        ),
    )
    function: Function | None = Field(
        default=None,
        description="The function to call. Exactly one of function and command is set.",
    )
    command: list[Annotated[str, StringConstraints(max_length=131071)]] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="A program and its arguments, no shell. Exactly one of function and command "
        "is set.",
    )
    context_variables: Payload | None = Field(
        default=None, description="Pickled variables for the command, which the SDK uploaded."
    )


class JobStatus(RunStatus):
    """The state of a Job, and its result where that is small."""

    result: Json = Field(
        default=None, description="The function's result, where it is JSON of up to 4 KiB."
    )
    exit_code: int | None = Field(default=None, description="Exit code of the command.")
    error: RunError | None = Field(default=None, description="What the function raised.")


class Job(Resource):
    """One call of a function, or one command, in a Pod."""

    names: ClassVar[Kind] = JOB
    rules: ClassVar[tuple[Rule, ...]] = (*Resource.rules, STATUS_STAYS)
    kind: Literal["Job"] = "Job"
    spec: JobSpec = Field(description="What to run, and how.")
    status: JobStatus | None = Field(
        default=None, description="What the operator observed. Nobody else writes it."
    )
