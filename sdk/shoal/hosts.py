"""Where a job runs: `Kubernetes`, or `Local`, which needs no cluster.

Hosts are descriptions that a module can hold at its top level; what they need to do their work is
imported when the first job is submitted.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoal.buckets import StorageBucketSpec
from shoal.errors import ConfigurationError, NotSupportedYet

if TYPE_CHECKING:
    from shoal.machinery import Machinery


class Host(abc.ABC):
    """Where a job runs; see the classes below."""

    @abc.abstractmethod
    def machinery(self) -> Machinery:
        """Return what carries out calls here (`shoal.machinery`); inside the event loop."""


@dataclass(frozen=True, init=False)
class Kubernetes(Host):
    """A cluster with Shoal's operator.

    Without arguments: the current context, and the namespace and bucket of SHOAL_* variables, else
    of the ConfigMap `shoal` that the operator keeps, else the namespace "default".

    Attributes:
        storage_spec: the bucket; None means the one that the operator was installed with.
        kube_config_context: None means the current context.
        kubernetes_namespace: None means SHOAL_NAMESPACE, else "default".
        reusable_pods: True (the default) runs on warm workers, which stay for the next job; False
            starts Pods for this job alone. The seed's spelling `resuable_pods` works as well.
        pod_customization: comes with a later version.
    """

    storage_spec: StorageBucketSpec | None
    kube_config_context: str | None
    kubernetes_namespace: str | None
    reusable_pods: bool
    pod_customization: Callable[[Any], Any] | None

    def __init__(
        self,
        storage_spec: StorageBucketSpec | None = None,
        kube_config_context: str | None = None,
        kubernetes_namespace: str | None = None,
        reusable_pods: bool | None = None,
        pod_customization: Callable[[Any], Any] | None = None,
        *,
        resuable_pods: bool | None = None,
    ) -> None:
        if reusable_pods is not None and resuable_pods is not None:
            raise TypeError(
                "Kubernetes: reusable_pods and resuable_pods are the same; set one of them"
            )
        if pod_customization is not None:
            raise NotSupportedYet(
                "Kubernetes.pod_customization comes with a later version: leave it out"
            )
        if storage_spec is not None and not isinstance(storage_spec, StorageBucketSpec):
            raise ConfigurationError(
                "Kubernetes.storage_spec must be a StorageBucketSpec such as "
                f"shoal.GenericStorageBucketSpec(...), not {storage_spec!r}"
            )
        reuse = resuable_pods if reusable_pods is None else reusable_pods
        fields: dict[str, Any] = {
            "storage_spec": storage_spec,
            "kube_config_context": kube_config_context,
            "kubernetes_namespace": kubernetes_namespace,
            "reusable_pods": True if reuse is None else bool(reuse),
            "pod_customization": None,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def resuable_pods(self) -> bool:
        """Return `reusable_pods`, by the seed's name."""
        return self.reusable_pods

    def machinery(self) -> Machinery:
        """Return what carries out calls on the cluster."""
        from shoal.cluster_runs import ClusterMachinery

        return ClusterMachinery(self)


@dataclass(frozen=True)
class Local(Host):
    """This machine: the same dispatcher, workers and ledger, on a folder in place of a bucket.

    Attributes:
        folder: where inputs and results lie; None means a folder in the user's cache, by which
            `attach` finds runs of other processes.
        python: the interpreter that the workers run, unless a deployment names another one of this
            machine; None means this one.
    """

    folder: str | os.PathLike[str] | None = None
    python: str | None = None

    def machinery(self) -> Machinery:
        """Return what carries out calls on this machine."""
        from shoal.local import LocalRunner

        machinery: Machinery = LocalRunner(self)
        return machinery
