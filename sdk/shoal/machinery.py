"""What a host must be able to do, so that one API works on a cluster and on this machine.

`shoal.api` turns a user's arguments into a `Call`. A `Machinery` (the cluster's in
`shoal.cluster_runs`, `Local`'s in `shoal.local`) submits it and gives a `Run`, whose `events` are
what became of it, in the order of the ledger, from its first entry or behind a cursor, whoever asks
and whenever:

    Accepted(entry)    results that are durable, as the ledger has them (verified, not unpickled)
    Printed(outputs)   what tasks wrote to stdout and stderr
    Observed(status)   the status changed: phase, progress, conditions
    Ended(...)         the last event, once, when nothing follows any more

Unpickling, ordering and raising are the reader's (`shoal.outcome`): a machinery moves bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from shoal.cursor import Cursor
    from shoal.deployment import Deployment
    from shoal.ledger import Entry
    from shoal.resources import Job, MapJob
    from shoal.sizing import Resources

Kind = Literal["function", "command", "map"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as the user's arguments say, checked, before it meets a host.

    Attributes:
        kind: which of the three kinds of call.
        name: the custom resource's name, or None for a random one.
        function: a callable or an importable name; None for a command.
        args, kwargs: of a function.
        items: of a map, not empty.
        argv: of a command.
        context: of a command, the variables that it finds in its context file.
        resources: what one worker asks for.
        deployment: where the code runs; already awaited and never None.
        parallelism: of a map, the workers at one time, at most the items.
        max_attempts: how often a task that fails is tried in all.
        more_memory: attempt n gets n times the memory.
        task_timeout: seconds that a task may take, or None.
        speculation: near a map's end idle workers take a second copy of the slowest tasks.
        own_workers: workers of this run alone, gone after it (`reusable_pods=False`).
    """

    kind: Kind
    name: str | None = None
    function: Callable[..., Any] | str | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    items: Sequence[Any] = ()
    argv: Sequence[str] = ()
    context: Mapping[str, Any] | None = None
    resources: Resources | None = None
    deployment: Deployment
    parallelism: int = 1
    max_attempts: int = 1
    more_memory: bool = False
    task_timeout: int | None = None
    speculation: bool = False
    own_workers: bool = False

    @property
    def total(self) -> int:
        """Return the number of tasks."""
        return len(self.items) if self.kind == "map" else 1


@dataclass(frozen=True)
class Accepted:
    """One entry of the ledger, in its order; each entry comes once."""

    entry: Entry


@dataclass(frozen=True)
class Output:
    """Some bytes that one task attempt wrote to its standard output or error."""

    index: int
    attempt: int
    pod: str
    text: bytes


@dataclass(frozen=True)
class Printed:
    """Output of tasks, in the order in which it was collected; each piece comes once."""

    outputs: Sequence[Output]


@dataclass(frozen=True)
class Observed:
    """The status as it is now, shaped as the custom resource's (`shoal.resources`)."""

    status: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The run's end; all entries of the ledger came before it.

    Attributes:
        outcome: "complete", "failed" or "cancelled".
        reason: a word of the closed list in `shoal.errors` ("TaskFailed" and "CommandFailed" where
            the tasks' own records tell what happened).
        message: why, for people.
        exit_code: of a command that ran without a bucket, and so without a ledger.
    """

    outcome: str
    reason: str
    message: str
    exit_code: int | None = None


Event = Accepted | Printed | Observed | Ended


class Run(Protocol):
    """A submitted call."""

    @property
    def kind(self) -> Kind:
        """Return which kind of call it is."""
        ...

    @property
    def name(self) -> str:
        """Return the custom resource's name, by which `attach` finds it."""
        ...

    @property
    def full_name(self) -> str:
        """Return the name for people: ``mapjobs.shoal.dev/x`` or, on this machine, ``local/x``."""
        ...

    @property
    def total(self) -> int:
        """Return the number of tasks."""
        ...

    @property
    def outlives_process(self) -> bool:
        """Return whether it goes on when the process that submitted it ends."""
        ...

    def events(
        self, *, logs: bool, results: bool = True, after: Cursor | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield everything from the start until `Ended`.

        `Printed` comes only if `logs`, `Accepted` only if `results`: else the ledger is not read.

        With `after`, `Accepted` only what is behind that cursor.

        Raises JobFailedException's subclasses for what makes further reading senseless: the
        operator does not answer, the resource was deleted, the ledger was tampered with.
        """
        ...

    async def beside(self, name: str) -> Run:
        """Return another run of the same place; JobNotFound if there is none."""
        ...

    async def fetch(self, key: str) -> bytes:
        """Return the object that a record of the ledger refers to (its digest is not checked)."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """Return the status as it is now."""
        ...

    async def cancel(self, *, keep_seconds: int | None = None) -> None:
        """Ask for the end of the run; results so far stay, or only for `keep_seconds` more.

        No error if it has ended already.
        """
        ...

    async def delete(self) -> None:
        """Remove the run with everything that belongs to it."""
        ...

    async def suspend(self, suspended: bool) -> None:
        """Pause the run, or let it go on; what is done stays done."""
        ...

    async def set_parallelism(self, workers: int) -> None:
        """Set how many workers a map may have at one time."""
        ...


class Machinery(Protocol):
    """One host's way to run calls; made for one event loop, by ``host.machinery()``."""

    async def submit(self, call: Call) -> Run:
        """Start the call and return at once. What fails leaves nothing behind."""
        ...

    async def attach(self, name: str) -> Run:
        """Return the run of that name, finished or not; JobNotFound if there is none."""
        ...

    async def manifest(self, call: Call) -> Job | MapJob:
        """Return the resource that `submit` would create, without creating or uploading it."""
        ...
