"""What Job and MapJob have in common: the spec of a run, and its status.

The status is the operator's alone. What it says about results is settled: the ledger in the bucket
has that many entries, and the last of them has that digest.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from .conditions import Conditions
from .deployment import JobDeployment
from .model import Model, StatusModel
from .rules import Rule
from .storage import ResolvedStorage, Storage
from .surroundings import Resources
from .values import JobId, Seconds, Time

CANCEL_STAYS: JsonDict = {
    "x-kubernetes-validations": [
        {
            "rule": "!oldSelf || self",
            "message": "cancel can't be undone: delete the resource and create a new one",
        }
    ]
}


class RunSpec(Model):
    """The fields of a run, be it of one call or of many."""

    id: JobId | None = Field(
        default=None,
        description="Where the run's inputs and results lie in the bucket. The SDK draws it at "
        "random, since inputs are uploaded first. Default: made from metadata.uid.",
    )
    deployment: JobDeployment | None = Field(
        default=None,
        description="Where the code runs: ref names a deployments.shoal.dev, or the fields of one "
        "stand here. Default: the operator's default image.",
    )
    resources: Resources | None = Field(
        default=None,
        description="What one worker asks for. Default: the deployment's, else the operator's.",
    )
    storage: Storage | None = Field(
        default=None, description="The bucket. Default: the deployment's, else the operator's."
    )
    max_attempts: int = Field(
        default=1, ge=1, le=100, description="How often a task that fails is tried in all."
    )
    max_disruptions: int = Field(
        default=5,
        ge=0,
        le=100,
        description="How often a task may lose its worker through no fault of its own "
        "(eviction, a lost node) before it fails.",
    )
    retry_with_more_memory: bool = Field(
        default=False,
        description="Whether each further attempt of a task gets more memory: attempt n runs in a "
        "Pod with n times what attempt 1 had.",
    )
    task_timeout_seconds: Seconds | None = Field(
        default=None,
        description="Seconds that one task may take; past them it is killed, and an attempt is "
        "charged. Default: none.",
    )
    backoff_seconds: int = Field(
        default=1,
        ge=0,
        le=3600,
        description="Seconds between a failed attempt and the next one; they double each time, up "
        "to a minute or this value.",
    )
    isolation: Literal["shared", "job"] = Field(
        default="shared",
        description="shared: warm workers of the deployment are used again. "
        "job: the workers are this run's alone, and gone after it.",
    )
    active_deadline_seconds: Seconds | None = Field(
        default=None,
        description="Seconds since the start after which the run fails with DeadlineExceeded; "
        "they begin anew when a suspended run goes on. Default: none.",
    )
    deployment_deadline_seconds: Seconds | None = Field(
        default=None,
        description="Seconds to wait for a deployments.shoal.dev that does not exist yet before "
        "the run fails with DeploymentNotFound. Default: the operator's.",
    )
    start_deadline_seconds: Seconds | None = Field(
        default=None,
        description="Seconds that the run may have no worker because its Pods find no room "
        "(scheduling, quota) before it fails with that reason. Default: the operator's.",
    )
    ttl_seconds_after_finished: int = Field(
        default=86400,
        ge=0,
        le=31_536_000,
        description="Seconds after its end until the resource and all its data are deleted.",
    )
    suspend: bool = Field(
        default=False,
        description="Set to true to pause the run: its tasks are taken back and its workers are "
        "free for others; false lets it go on. Finished tasks keep their results.",
    )
    cancel: bool = Field(
        default=False,
        json_schema_extra=CANCEL_STAYS,
        description="Set to true to end the run; finished tasks keep their results.",
    )


COMMON_IMMUTABLE = (
    "id",
    "deployment",
    "resources",
    "storage",
    "maxAttempts",
    "maxDisruptions",
    "retryWithMoreMemory",
    "taskTimeoutSeconds",
    "backoffSeconds",
    "isolation",
    "deploymentDeadlineSeconds",
    "startDeadlineSeconds",
)


class LedgerStatus(StatusModel):
    """How far the record of results in the bucket is settled."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.length >= oldSelf.length", "status.ledger.length never falls", "length"),
    )
    length: int = Field(ge=0, description="Number of entries.")
    digest: str = Field(
        default="",
        pattern=r"^([a-f0-9]{64})?$",
        max_length=64,
        description="SHA-256 of the last entry, which names the one before; empty at first.",
    )


class LogsStatus(StatusModel):
    """How much output stands in the bucket."""

    length: int = Field(ge=0, description="Number of pieces.")


class WorkersStatus(StatusModel):
    """Workers for this run."""

    ready: int = Field(default=0, ge=0, description="Workers that are connected.")
    wanted: int = Field(default=0, ge=0, description="Workers that it could use now.")


class RunError(StatusModel):
    """What the user's function raised."""

    type: str = Field(default="", description="Name of the exception's class.")
    message: str = Field(default="", description="Its message.")
    traceback: str = Field(default="", description="The end of its traceback, up to 4 KiB.")


class RunStatus(StatusModel):
    """The state of a run."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that the operator has acted upon."
    )
    phase: Literal["Pending", "Running", "Suspended", "Complete", "Failed", "Cancelled"] | None = (
        Field(default=None, description="The state in one word; the conditions say why.")
    )
    id: str | None = Field(
        default=None,
        description="Where inputs and results lie in the bucket (spec.id, or made from the uid).",
    )
    start_time: Time | None = Field(
        default=None,
        description="When the operator took the run; set anew when a suspended one goes on.",
    )
    completion_time: Time | None = Field(default=None, description="When the run ended.")
    duration: str | None = Field(default=None, description="How long it ran, for people.")
    total: int | None = Field(default=None, ge=0, description="Number of tasks.")
    succeeded: int | None = Field(default=None, ge=0, description="Tasks that have a result.")
    failed: int | None = Field(default=None, ge=0, description="Tasks that have failed for good.")
    progress: str | None = Field(default=None, description="Finished tasks of all, such as 7/10.")
    ledger: LedgerStatus | None = Field(
        default=None, description="How far the record of results in the bucket is settled."
    )
    logs: LogsStatus | None = Field(
        default=None, description="How much output stands in the bucket."
    )
    workers: WorkersStatus | None = Field(default=None, description="Workers for this run.")
    deployment_name: str | None = Field(
        default=None, description="The deployments.shoal.dev whose workers run it."
    )
    environment_job: str | None = Field(
        default=None,
        description="Name of the jobs.shoal.dev that builds, or has built, the packages which the "
        "run's workers need.",
    )
    storage: ResolvedStorage | None = Field(
        default=None, description="The bucket that the operator settled on."
    )
    conditions: Conditions = Field(
        default_factory=list,
        description="What the run is at, and why. Finished is True once it is Complete or Failed.",
    )
