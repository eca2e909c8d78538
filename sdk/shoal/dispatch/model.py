"""The words in which the dispatcher and its owner (the operator, or the Local host) speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from shoal.ledger import Terminal
from shoal.worker.records import Record


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The object `inputs/job` of a job, as its custom resource names it; sizes in bytes."""

    key: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class CodePartRef:
    """A zip of user code in the bucket; its size is in bytes."""

    key: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class CodeRef:
    """User code in the bucket; paths are relative to where its parts are unpacked."""

    parts: tuple[CodePartRef, ...]
    sys_paths: tuple[str, ...] = (".",)
    working_directory: str = "."


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What the dispatcher must know of a job.

    Attributes:
        id: the submitter's id; it names the job's part of the bucket.
        uid: the custom resource's uid.
        name: the custom resource's full name, for messages ("mapjobs.shoal.dev/x").
        context: whose ledger this is, for MACs (cluster and uid).
        prefix: the job's part of the bucket, without a slash at its end.
        kind: "function", "map" or "command".
        total: number of tasks.
        parallelism: the most workers that work on it at the same time.
        max_attempts: how often a task may be tried when it fails by its own fault.
        max_disruptions: how often a task is reissued when its Pod was taken away.
        inputs: where pickled inputs stand, or None when `inline` holds them.
        inline: ``{"function": {"name"}, "items": [JSON, ...]}`` (an item of a function's Job is
            ``{"args": [...], "kwargs": {...}}``), or ``{"argv": [...]}``.
        code: user code to unpack, or None.
        backoff: seconds before a failed task's second attempt; doubles, up to a minute or
            to itself where it is longer.
        timeout: seconds that one task may take, or None.
        more_memory: attempt n runs on workers with n times the memory of the first.
        memory: bytes that a worker of the first attempt asks for, 0 where nobody knows.
        speculation: near the end idle workers take a second copy of the slowest tasks.
        suspended: nothing is handed out for now.
    """

    id: str
    uid: str
    name: str
    context: str
    prefix: str
    kind: str
    total: int
    parallelism: int
    max_attempts: int = 1
    max_disruptions: int = 5
    inputs: Inputs | None = None
    inline: Mapping[str, Any] | None = None
    code: CodeRef | None = None
    backoff: float = 1.0
    timeout: float | None = None
    more_memory: bool = False
    memory: int = 0
    speculation: bool = False
    suspended: bool = False

    @property
    def json_results(self) -> bool:
        """Whether results are JSON, for readers without Python."""
        return self.inline is not None and self.kind != "command"


class JobStore(Protocol):
    """The bucket, as far as one job's prefix and code reach.

    Every method retries nothing; it raises `shoal.errors.StorageError` where the bucket fails.
    """

    async def create(self, key: str, data: bytes) -> bool:
        """Write the object unless the key exists; return False, and write nothing, if it does."""
        ...

    async def put(self, key: str, data: bytes) -> None:
        """Write the object."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return the object, or None where there is none."""
        ...

    def url_to_get(self, key: str) -> str:
        """Return a URL that a worker may read the object with, without any credential."""
        ...

    def url_to_put(self, key: str) -> str:
        """Return a URL that a worker may write the object with, without any credential."""
        ...


class Fatal(NamedTuple):
    """A worker's word that a job can run nowhere; `error` is (type, message, traceback)."""

    job: str
    reason: str
    message: str
    error: tuple[str, str, str] | None = None


class NotAttachedYet(Exception):
    """A job is known, but not attached yet: the worker is to ask again."""


@dataclass(frozen=True, kw_only=True)
class WorkerIdentity:
    """Who a worker is, as the owner's `authenticate` found; `pool` says whose tasks it may get."""

    pod_uid: str
    pod: str
    namespace: str
    node: str
    pool: str


class Unauthorized(Exception):
    """`authenticate` does not know this worker; the message goes to the operator's log."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How long a pool's idle workers stay: `idle_seconds`, but `min_workers` of them for ever."""

    idle_seconds: float = 300.0
    min_workers: int = 0


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """What is known of a pool now.

    `wanted` counts the workers that its jobs could use, `widest` those that one of them could.
    """

    connected: frozenset[str]
    idle: int
    busy: int
    wanted: int
    widest: int


@dataclass(frozen=True, kw_only=True)
class JobView:
    """What is durable of a job, for its status.

    `problem` is what holds it up (reason, text); `sizes` are the attempts, from the second, whose
    larger workers have something to do.
    """

    total: int
    succeeded: int = 0
    failed: int = 0
    ledger_length: int = 0
    ledger_digest: str = ""
    logs_length: int = 0
    terminal: Terminal | None = None
    only_record: Record | None = None
    results_file: str = ""
    wanted_workers: int = 0
    problem: tuple[str, str] | None = None
    claimed: int = 0
    suspended: bool = False
    sizes: tuple[int, ...] = ()
