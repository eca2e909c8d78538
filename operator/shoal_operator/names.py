"""Names that stand on objects of the cluster: group, kinds, labels, annotations.

One page, because charts, docs and users' selectors repeat them.
"""

from __future__ import annotations

GROUP = "shoal.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

JOB = "Job"
MAP_JOB = "MapJob"
DEPLOYMENT = "Deployment"
PLURALS = {JOB: "jobs", MAP_JOB: "mapjobs", DEPLOYMENT: "deployments"}

MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = f"{GROUP}/instance"
POOL = f"{GROUP}/pool"
DEPLOYMENT_LABEL = f"{GROUP}/deployment"
JOB_LABEL = f"{GROUP}/job"
AUTO = f"{GROUP}/auto"
ENVIRONMENT = f"{GROUP}/environment"
CLAIM = f"{GROUP}/claim"
MAC = f"{GROUP}/mac"

CONFIG_MAP = "shoal"
WORKER_CONTAINER = "worker"


def full_name(kind: str, name: str) -> str:
    """`jobs.shoal.dev/x`: how a resource is named in messages, since plain `job` is Kubernetes'
    own."""
    return f"{PLURALS[kind]}.{GROUP}/{name}"


def ours(instance: str) -> dict[str, str]:
    """Labels of every object that the operator of `instance` makes."""
    return {MANAGED_BY: "shoal", INSTANCE: instance}


def selector(instance: str) -> str:
    """Selects the objects that the operator of `instance` makes."""
    return ",".join(f"{key}={value}" for key, value in ours(instance).items())
