"""The custom resources of shoal.dev as models: build, validate, `to_yaml()`, apply.

They are the one source: the CustomResourceDefinitions in `crds/` are generated from them
(`python -m shoal.crdgen`), so what they accept is what the API server accepts.

    spec = JobSpec(function=Function(name="platform.node"))
    print(Job(metadata=Metadata(name="hello"), spec=spec).to_yaml())
"""

from __future__ import annotations

from .conditions import Condition, find_condition
from .deployment import (
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    EnvironmentStatus,
    JobDeployment,
)
from .environment import Conda, Environment
from .function import Function, MapFunction, Payload
from .job import Job, JobSpec, JobStatus
from .kinds import API_VERSION, CATEGORY, GROUP, KINDS, VERSION, Kind, full_name
from .mapjob import Items, MapJob, MapJobSpec, MapJobStatus, PackedItems
from .metadata import Metadata, OwnerReference
from .resource import Resource, resource_from_dict
from .run import LedgerStatus, LogsStatus, RunError, WorkersStatus
from .storage import ResolvedStorage, Storage
from .surroundings import Code, ImagePullSecret, Resources
from .validation import InvalidResource
from .variables import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    EnvFromSource,
    EnvironmentVariable,
    EnvVarSource,
    SecretEnvSource,
    SecretKeySelector,
)

__all__ = [
    "API_VERSION",
    "CATEGORY",
    "GROUP",
    "KINDS",
    "VERSION",
    "Code",
    "Conda",
    "Condition",
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "Deployment",
    "DeploymentSpec",
    "DeploymentStatus",
    "EnvFromSource",
    "EnvVarSource",
    "Environment",
    "EnvironmentStatus",
    "EnvironmentVariable",
    "Function",
    "ImagePullSecret",
    "InvalidResource",
    "Items",
    "Job",
    "JobDeployment",
    "JobSpec",
    "JobStatus",
    "Kind",
    "LedgerStatus",
    "LogsStatus",
    "MapFunction",
    "MapJob",
    "MapJobSpec",
    "MapJobStatus",
    "Metadata",
    "OwnerReference",
    "PackedItems",
    "Payload",
    "ResolvedStorage",
    "Resource",
    "Resources",
    "RunError",
    "SecretEnvSource",
    "SecretKeySelector",
    "Storage",
    "WorkersStatus",
    "find_condition",
    "full_name",
    "resource_from_dict",
]
