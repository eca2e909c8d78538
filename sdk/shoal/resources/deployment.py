"""deployments.shoal.dev: where code runs, and the warm workers that hold it ready.

A Job or MapJob names one, or carries the same fields itself; then the operator makes one named by
their hash, so that the next run with the same fields finds its workers warm.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .conditions import Conditions
from .kinds import DEPLOYMENT, Kind
from .model import StatusModel
from .resource import Resource
from .rules import Rule, immutable
from .storage import Storage
from .surroundings import CODE_ONCE, Resources, Surroundings
from .values import ObjectName, Sha256, Size

_SURROUNDINGS = (
    "image",
    "python",
    "interpreter",
    "imagePullPolicy",
    "imagePullSecrets",
    "code",
    "environment",
    "environmentVariables",
    "envFrom",
    "serviceAccountName",
)
_IN_A_RUN = (*_SURROUNDINGS, "idleSeconds")
_MAX_IDLE = 604_800


class JobDeployment(Surroundings):
    """The deployment of a run: the name of one, or its fields."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.ref) || !({' || '.join(f'has(self.{name})' for name in _IN_A_RUN)})",
            "set either ref, which names a deployments.shoal.dev, or the fields of one",
            holds=lambda d: d.ref is None or list(d.to_dict()) == ["ref"],
        ),
        CODE_ONCE,
    )
    ref: ObjectName | None = Field(
        default=None, description="Name of a deployments.shoal.dev of this namespace."
    )
    idle_seconds: int | None = Field(
        default=None,
        ge=0,
        le=_MAX_IDLE,
        description="Seconds that an idle worker is kept for the next run. Default: 300.",
    )


class DeploymentSpec(Surroundings):
    """Where code runs, and how many workers hold it ready."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *immutable((*_SURROUNDINGS, "resources", "storage"), "deployments.shoal.dev"),
        CODE_ONCE,
        Rule(
            "!has(self.maxWorkers) || self.minWorkers <= self.maxWorkers",
            "minWorkers must not be above maxWorkers",
            "minWorkers",
            holds=lambda s: s.max_workers is None or s.min_workers <= s.max_workers,
        ),
    )
    resources: Resources | None = Field(
        default=None, description="What one worker asks for. Default: the operator's."
    )
    storage: Storage | None = Field(
        default=None, description="The bucket. Default: the operator's."
    )
    min_workers: int = Field(
        default=0,
        ge=0,
        le=10000,
        description="Workers that are kept even when there is nothing to do.",
    )
    max_workers: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="The most workers at one time. Default: the operator's maxParallelism.",
    )
    idle_seconds: int = Field(
        default=300,
        ge=0,
        le=_MAX_IDLE,
        description="Seconds that an idle worker above minWorkers is kept.",
    )


class EnvironmentStatus(StatusModel):
    """How the packages of a Deployment stand."""

    phase: Literal["Building", "Ready", "Failed"] = Field(
        description="Building, Ready or Failed; a new job lets a failed one be built again."
    )
    job: str = Field(description="Name of the jobs.shoal.dev that builds it; its log tells how.")
    message: str = Field(description="What is going on, or what the installer said last.")
    uid: str | None = Field(default=None, description="Which build failed.")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the archive.")
    size: Size | None = Field(default=None, description="Size of the archive in bytes.")
    python: str | None = Field(
        default=None, description="Version of the Python that the packages are for."
    )
    commit: str | None = Field(
        default=None, description="Commit of spec.environment.git that the workers have."
    )


class DeploymentStatus(StatusModel):
    """The state of the workers."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that the operator has acted upon."
    )
    replicas: int | None = Field(default=None, ge=0, description="Workers that exist.")
    ready_replicas: int | None = Field(
        default=None, ge=0, description="Workers that are connected to the operator."
    )
    idle: int | None = Field(
        default=None, ge=0, description="Connected workers with nothing to do."
    )
    selector: str | None = Field(
        default=None,
        description="Label selector of the worker Pods, for kubectl scale and autoscalers.",
    )
    hash: str | None = Field(
        default=None, description="Hash of the fields that make one worker as good as another."
    )
    code_size: Size | None = Field(
        default=None, description="Bytes of all parts of spec.code together."
    )
    environment: EnvironmentStatus | None = Field(
        default=None, description="How the packages of spec.environment stand."
    )
    conditions: Conditions = Field(
        default_factory=list,
        description="Whether workers can be had (Available), and why not; whether the packages of "
        "spec.environment are installed (EnvironmentReady).",
    )


class Deployment(Resource):
    """Where code runs: image, code and variables, and the warm workers that hold them ready."""

    names: ClassVar[Kind] = DEPLOYMENT
    kind: Literal["Deployment"] = "Deployment"
    spec: DeploymentSpec = Field(
        default_factory=DeploymentSpec,
        json_schema_extra={"default": {}},
        description="What is wanted. Only minWorkers, maxWorkers and idleSeconds can be changed.",
    )
    status: DeploymentStatus | None = Field(
        default=None, description="What the operator observed. Nobody else writes it."
    )
