"""The operator's view of the cluster, in memory: custom resources by uid, Pods by pool.

The watch fills it (handlers.py), the operator's own writes run ahead of the watch (`put` with the
answer of a create or a patch), and the sweep corrects it. Nothing here talks to the API server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from . import names
from .observe import PodFact, seconds

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CustomResource:
    """One custom resource as last seen; `spec` and `status` are plain JSON and never changed
    here."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created: float
    deleting: bool
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, body: Mapping[str, Any]) -> CustomResource:
        """Take what is needed out of the API server's body."""
        meta = body["metadata"]
        return cls(
            kind=kind,
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            version=int(meta.get("resourceVersion") or 0),
            generation=int(meta.get("generation") or 0),
            created=seconds(meta.get("creationTimestamp")),
            deleting=bool(meta.get("deletionTimestamp")),
            labels=dict(meta.get("labels") or {}),
            spec=_plain(body.get("spec") or {}),
            status=_plain(body.get("status") or {}),
        )

    @property
    def full_name(self) -> str:
        """E.g. jobs.shoal.dev/x."""
        return names.full_name(self.kind, self.name)

    @property
    def job_id(self) -> str:
        """A Job's id: the submitter's, or one made of the uid when there is none."""
        return str(self.spec.get("id") or "u" + self.uid.replace("-", ""))

    @property
    def finished(self) -> bool:
        """Whether a Job's status already says that it ended."""
        return self.says("Finished")

    @property
    def suspended(self) -> bool:
        """Whether a Job is to pause."""
        return bool(self.spec.get("suspend"))

    def says(self, condition: str) -> bool:
        """Whether a condition is True in the status."""
        return any(
            c.get("type") == condition and c.get("status") == "True"
            for c in self.status.get("conditions") or ()
        )


class Cache:
    """Custom resources and Pods, as the watch and the operator's own writes last showed them."""

    def __init__(self) -> None:
        self.complete = False
        """Whether all that was there at the start has been listed."""
        self._resources: dict[str, CustomResource] = {}
        self._by_name: dict[tuple[str, str, str], str] = {}
        self._by_id: dict[tuple[str, str], dict[str, None]] = {}
        self._pods: dict[str, PodFact] = {}
        self._pools: dict[tuple[str, str], dict[str, PodFact]] = {}
        self._owned: dict[str, dict[str, PodFact]] = {}

    def put(self, resource: CustomResource) -> bool:
        """Keep `resource` unless something newer is known; say whether it was kept."""
        known = self._resources.get(resource.uid)
        if known is not None and resource.version < known.version:
            return False
        if known is not None and known.job_id != resource.job_id:
            _remove(self._by_id, (known.namespace, known.job_id), known.uid)
        self._resources[resource.uid] = resource
        self._by_name[resource.kind, resource.namespace, resource.name] = resource.uid
        if resource.kind != names.DEPLOYMENT:
            self._by_id.setdefault((resource.namespace, resource.job_id), {})[resource.uid] = None
        return True

    def drop(self, uid: str) -> CustomResource | None:
        """Forget a resource that is gone."""
        resource = self._resources.pop(uid, None)
        if resource is not None:
            key = (resource.kind, resource.namespace, resource.name)
            if self._by_name.get(key) == uid:
                del self._by_name[key]
            _remove(self._by_id, (resource.namespace, resource.job_id), uid)
        return resource

    def get(self, uid: str) -> CustomResource | None:
        """The resource of that uid."""
        return self._resources.get(uid)

    def may_be_unfinished(self, uid: str) -> bool:
        """Whether there is such a job that has not ended, as far as is known yet."""
        resource = self._resources.get(uid)
        if resource is None:
            return not self.complete
        return not (resource.finished or resource.deleting)

    def named(self, kind: str, namespace: str, name: str) -> CustomResource | None:
        """The resource of that name."""
        uid = self._by_name.get((kind, namespace, name))
        return self._resources.get(uid) if uid else None

    def jobs_with_id(self, namespace: str, job_id: str) -> list[CustomResource]:
        """The Jobs and MapJobs that have an id, in the order in which they were seen."""
        return [self._resources[uid] for uid in self._by_id.get((namespace, job_id), ())]

    def resources(self, *kinds: str) -> Iterator[CustomResource]:
        """All resources of these kinds, safe against changes while iterating."""
        return iter([r for r in self._resources.values() if r.kind in kinds])

    def put_pod(self, fact: PodFact) -> None:
        """Keep a Pod's facts."""
        self._pods[fact.uid] = fact
        self._pools.setdefault((fact.namespace, fact.pool), {})[fact.uid] = fact
        self._owned.setdefault(fact.owner_uid, {})[fact.uid] = fact

    def drop_pod(self, uid: str) -> PodFact | None:
        """Forget a Pod that is gone."""
        fact = self._pods.pop(uid, None)
        if fact is not None:
            _remove(self._pools, (fact.namespace, fact.pool), uid)
            _remove(self._owned, fact.owner_uid, uid)
        return fact

    def pod(self, uid: str) -> PodFact | None:
        """The Pod of that uid."""
        return self._pods.get(uid)

    def pods(self, namespace: str, pool: str) -> tuple[PodFact, ...]:
        """The Pods of a pool."""
        return tuple(self._pools.get((namespace, pool), {}).values())

    def pods_of(self, owner_uid: str) -> tuple[PodFact, ...]:
        """The Pods that an object owns, of all its pools."""
        return tuple(self._owned.get(owner_uid, {}).values())

    def all_pods(self) -> tuple[PodFact, ...]:
        """Every worker Pod known."""
        return tuple(self._pods.values())


def _remove(table: dict[Key, dict[str, Value]], key: Key, uid: str) -> None:
    """Take a uid out of one table, and the table's row when it is empty then."""
    row = table.get(key, {})
    row.pop(uid, None)
    if not row:
        table.pop(key, None)


def _plain(value: Any) -> Any:
    """kopf's read-only views to plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
