"""The machinery of `Kubernetes`: custom resources on one side, the bucket on the other.

A run's events come from a watch (`shoal.following`). When the status says that the ledger or the
log has grown, the new entries are read from the bucket and checked against the status. The watch
goes on where the API server cuts it; a run that is attached to later yields the same events.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

from shoal import code_upload, discovery, manifests, submission
from shoal.buckets import GenericStorageBucketSpec
from shoal.cursor import Cursor
from shoal.discovery import Place
from shoal.errors import (
    ApiError,
    ConfigurationError,
    JobDeleted,
    JobNotFound,
    NoOperator,
    ShoalException,
)
from shoal.following import API_SECONDS, LABEL, PROCESS, Follower, Reader
from shoal.hosts import Kubernetes
from shoal.kube import JOBS, MAPJOBS, Client, Resource, shared
from shoal.ledger import GENESIS
from shoal.ledger_reader import LedgerReader
from shoal.log_reader import LogReader
from shoal.machinery import Accepted, Call, Ended, Event, Kind, Observed
from shoal.outages import Outage
from shoal.resources import Job, MapJob

OPERATOR_SECONDS = 20.0
"""How long a new resource may stay without any status before NoOperator is raised."""


class ClusterMachinery:
    """Carries out calls on the cluster that a `Kubernetes` names."""

    def __init__(self, host: Kubernetes) -> None:
        self._host = host

    async def submit(self, call: Call) -> ClusterRun:
        """Pack, upload, create."""
        api, place = await self._connect()
        prepared = await asyncio.to_thread(manifests.prepare, call, place)
        following = Follower.of(api, manifests.KINDS[call.kind], place.namespace)
        reader = following.reader(prepared.model.name)
        made = await submission.submit(api, place, prepared, reader.ready())
        return ClusterRun(api, place, call.kind, made, reader)

    async def attach(self, name: str) -> ClusterRun:
        """Find a run by name, or by full name where a Job and a MapJob have the same."""
        api, place = await self._connect()
        found: list[tuple[Resource, dict[str, Any]]] = []
        plural, _, rest = name.rpartition("/")
        for kind in (JOBS, MAPJOBS):
            if plural and kind.full_name("").rstrip("/") != plural:
                continue
            try:
                found.append((kind, await api.get(kind, rest, place.namespace)))
            except ApiError as error:
                if error.status != 404:
                    raise
        if not found:
            raise JobNotFound(
                f"There is no jobs.shoal.dev or mapjobs.shoal.dev named {name} in namespace "
                f"{place.namespace} (any more): `kubectl get sjob,mapjob -n {place.namespace}` "
                "lists those that are there"
            )
        if len(found) > 1:
            raise ConfigurationError(
                f"Both jobs.shoal.dev/{name} and mapjobs.shoal.dev/{name} exist in namespace "
                f"{place.namespace}: attach to one by its full name"
            )
        resource, made = found[0]
        if field := made["spec"].get("storage"):
            host = dataclasses.replace(self._host, storage_spec=_spec(field))
            place = await discovery.find(api, host)
        is_command = "command" in made["spec"]
        kind_: Kind = "map" if resource is MAPJOBS else "command" if is_command else "function"
        return ClusterRun(api, place, kind_, made)

    async def manifest(self, call: Call) -> Job | MapJob:
        """Return the resource that `submit` would create."""
        _, place = await self._connect()
        return await asyncio.to_thread(manifests.manifest, call, place)

    async def _connect(self) -> tuple[Client, Place]:
        api = await shared(self._host.kube_config_context)
        return api, await discovery.find(api, self._host)


class ClusterRun:
    """One jobs.shoal.dev or mapjobs.shoal.dev."""

    outlives_process = True

    def __init__(
        self,
        api: Client,
        place: Place,
        kind: Kind,
        made: dict[str, Any],
        reader: Reader | None = None,
    ) -> None:
        """`made` is the object as the API server has it; `reader` has followed it since then."""
        self._api, self._place, self._made, self._reader = api, place, made, reader
        self._new = reader is not None
        self._resource = manifests.KINDS[kind]
        self._kind = kind
        self._outage = Outage(self.full_name)
        items = made["spec"].get("items", {})
        packed = items.get("packed")
        self._total: int = packed["count"] if packed else len(items.get("inline") or [None])

    @property
    def kind(self) -> Kind:
        """Return which kind of call it is."""
        return self._kind

    @property
    def name(self) -> str:
        """Return the resource's name."""
        return str(self._made["metadata"]["name"])

    @property
    def full_name(self) -> str:
        """Return the name for people."""
        return self._resource.full_name(self.name)

    @property
    def total(self) -> int:
        """Return the number of tasks."""
        return self._total

    async def events(
        self, *, logs: bool, results: bool = True, after: Cursor | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield everything from the start, or the results behind `after`, until `Ended`."""
        if after is not None:
            await self._look()  # a state from before the cursor would not know its place
        reading = _Reading(self, logs, results, after)
        async with aclosing(self._states(reading)) as states:
            async for made in states:
                async for event in reading.of(made):
                    yield event
                if reading.ended:
                    return

    async def _states(self, reading: _Reading) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the object as it was made or is now, and then whenever it has changed."""
        reader, self._reader = self._reader, None
        if reader is None:
            await self._look()
        yield self._made
        labels = self._made["metadata"].get("labels") or {}
        if labels.get(LABEL) != PROCESS:
            async with aclosing(self._watch()) as watch:
                async for made in watch:
                    yield made
        if reader is None:
            following = Follower.of(self._api, self._resource, self._place.namespace)
            reader = following.reader(self.name)
            await reader.ready()
            yield await self._look()
        while True:
            try:
                async with asyncio.timeout(None if reading.answered else OPERATOR_SECONDS):
                    found = await reader.next()
            except TimeoutError:
                if not self._new:
                    continue
                raise self._unanswered() from None
            yield self._mine(found) if found else await self._look()

    async def _watch(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the states of a run that another process has submitted, by a watch of its own."""
        watch = self._api.watch(
            self._resource,
            self._place.namespace,
            name=self.name,
            resource_version=self._made["metadata"]["resourceVersion"],
            give_up_seconds=API_SECONDS,
        )
        async with aclosing(watch):
            async for event in watch:
                there = event.object["items"] if event.type == "LISTED" else [event.object]
                if event.type == "DELETED" or not there:
                    yield await self._look()
                else:
                    yield self._mine(there[0])

    async def _look(self) -> dict[str, Any]:
        """Return the object as it is now; JobDeleted if there is none."""
        try:
            made = await self._api.get(self._resource, self.name, self._place.namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            raise self._deleted() from None
        return self._mine(made)

    def _mine(self, made: dict[str, Any]) -> dict[str, Any]:
        """Return the object, unless another one has taken the name."""
        if made["metadata"]["uid"] != self._made["metadata"]["uid"]:
            raise self._deleted()
        self._made = made
        return made

    def _deleted(self) -> JobDeleted:
        return JobDeleted(
            f"{self.full_name} in namespace {self._place.namespace} was deleted: its results are "
            "lost. Submit it again if you did not mean that."
        )

    def _unanswered(self) -> NoOperator:
        return NoOperator(
            f"No operator has taken up {self.full_name} in namespace {self._place.namespace} "
            f"within {OPERATOR_SECONDS:.0f} s. Is it running (`kubectl get pods -A -l "
            "app.kubernetes.io/name=shoal`), does it watch this namespace (the chart's "
            "watchNamespaces), and what does its log say?"
        )

    @property
    def prefix(self) -> str:
        """Return the run's part of the bucket."""
        run_id = self._made.get("status", {}).get("id") or self._made["spec"].get("id")
        return f"{self._place.prefix}/jobs/{run_id}"

    async def beside(self, name: str) -> ClusterRun:
        """Return a Job of the same namespace and bucket."""
        try:
            made = await self._api.get(JOBS, name, self._place.namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            raise JobNotFound(
                f"There is no {JOBS.full_name(name)} in namespace {self._place.namespace}"
            ) from None
        return ClusterRun(self._api, self._place, "function", made)

    async def fetch(self, key: str) -> bytes:
        """Return an object of the bucket, waiting for a bucket that is away."""

        async def read() -> bytes:
            storage = await self._place.bucket(self._api, f"{self.full_name}, to be read,")
            return await asyncio.to_thread(storage.get, key)

        return await self._outage.outlast(read)

    async def status(self) -> Mapping[str, Any]:
        """Return the status as it is now."""
        status: Mapping[str, Any] = (await self._look()).get("status") or {}
        return status

    async def cancel(self, *, keep_seconds: int | None = None) -> None:
        """Set spec.cancel; the operator ends the run."""
        spec: dict[str, Any] = {"cancel": True}
        if keep_seconds is not None:
            spec["ttlSecondsAfterFinished"] = keep_seconds
        with suppress(JobDeleted):
            await self._change(spec)

    async def suspend(self, suspended: bool) -> None:
        """Set spec.suspend; the operator takes the tasks back."""
        await self._change({"suspend": suspended})

    async def set_parallelism(self, workers: int) -> None:
        """Set spec.parallelism; the operator caps it."""
        await self._change({"parallelism": workers})

    async def _change(self, spec: dict[str, Any]) -> None:
        body = {"metadata": {"uid": self._made["metadata"]["uid"]}, "spec": spec}
        try:
            await self._api.patch(self._resource, self.name, body, self._place.namespace)
        except ApiError as error:
            if error.status in (404, 409, 422):
                await self._look()  # is it gone, or has another one its name?
            raise

    async def delete(self) -> None:
        """Delete the resource; its Pods go with it, and its keys with the operator's sweep.

        Inputs that nobody is going to read are removed here and now.
        """
        await self._api.delete(
            self._resource, self.name, self._place.namespace, uid=self._made["metadata"]["uid"]
        )
        spec = self._made["spec"]
        if "payload" in spec.get("function", {}) or "contextVariables" in spec:
            with suppress(ShoalException):
                storage = await self._place.bucket(self._api, self.full_name)
                await asyncio.to_thread(submission.remove_inputs, storage, self.prefix)


class _Reading:
    """How far one reader of a run has come."""

    def __init__(self, run: ClusterRun, logs: bool, results: bool, after: Cursor | None) -> None:
        self._run, self._logs, self._results, self._after = run, logs, results, after
        self._log: LogReader | None = None
        self._ledger: LedgerReader | None = None
        self.answered = False
        self.ended = False

    async def of(self, made: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Yield what the object's status says beyond what was yielded before."""
        status = made.get("status") or {}
        if not status:
            return
        self.answered = True
        async for event in self._printed(status):
            yield event
        async for event in self._accepted(status):
            yield event
        yield Observed(status)
        if end := _end(status):
            self.ended = True
            if end.reason in ("InputsNotFound", "InputsCorrupt"):
                code_upload.forget_uploads()
            yield end

    async def _accepted(self, status: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        ledger = status.get("ledger") or {}
        length = ledger.get("length", 0)
        if not self._results or not (length or self._after):
            return
        if self._ledger is None:
            self._ledger = LedgerReader(self._run.fetch, self._run.prefix, self._after)
        if self._ledger.is_behind(length):
            async for entry in self._ledger.read(length, ledger.get("digest") or GENESIS):
                yield Accepted(entry)

    async def _printed(self, status: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        length = status.get("logs", {}).get("length", 0)
        if not self._logs or not length:
            return
        if self._log is None:
            run = self._run
            self._log = LogReader(run.fetch, run.prefix, run.full_name)
        async for printed in self._log.read(length):
            yield printed


def _spec(field: Mapping[str, str]) -> GenericStorageBucketSpec:
    return GenericStorageBucketSpec(
        field["bucket"],
        field["endpoint"],
        field.get("endpointInCluster"),
        field.get("secretName"),
        field.get("region"),
        field.get("prefix"),
    )


def _end(status: Mapping[str, Any]) -> Ended | None:
    """Return how the run ended, if the condition Finished says that it did."""
    for condition in status.get("conditions", ()):
        if condition["type"] == "Finished" and condition["status"] == "True":
            phase = status.get("phase", "")
            outcome = phase.lower() if phase in ("Complete", "Cancelled") else "failed"
            return Ended(outcome, condition["reason"], condition["message"], status.get("exitCode"))
    return None
