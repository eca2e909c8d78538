"""The three kinds and how each is called, in one table.

`Job` and `Deployment` are also kinds of Kubernetes itself, so `kubectl get job` never means ours:
every message, document and manifest uses the full name that `full_name` makes, or a short name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROUP: Final = "shoal.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "shoal.dev/v1alpha1"
CATEGORY = "shoal"


@dataclass(frozen=True, slots=True)
class Kind:
    """The names of one custom resource."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition, such as `jobs.shoal.dev`."""
        return f"{self.plural}.{GROUP}"


JOB = Kind("Job", "jobs", "job", ("sjob",))
MAP_JOB = Kind("MapJob", "mapjobs", "mapjob", ("smap",))
DEPLOYMENT = Kind("Deployment", "deployments", "deployment", ("sdep",))

KINDS: dict[str, Kind] = {kind.kind: kind for kind in (JOB, MAP_JOB, DEPLOYMENT)}
"""Every kind of the group by its name."""


def full_name(kind: str, name: str) -> str:
    """Return how kubectl and our messages name an object: `jobs.shoal.dev/x`."""
    return f"{KINDS[kind].crd_name}/{name}"
