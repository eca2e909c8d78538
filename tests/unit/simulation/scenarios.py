"""What hypothesis draws: a job, its tasks, and what happens to them and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

#: Seconds between two events.
PAUSES = (0.0, 0.002, 0.006, 0.02, 0.1, 0.3, 0.3, 1.0, 1.0, 3.0, 10.0, 25.0)

Event = tuple[float, tuple[object, ...]]


@dataclass(frozen=True)
class Task:
    """What a task does: `seconds` long, then `then`, in attempts or runs up to `until`.

    `then` is one of: ok; fail (an exception in attempts up to `until`); unpicklable; dies (its
    container ends with it, in runs up to `until`); oom (its container ends for want of memory in
    attempts up to `until`); short (its child does, and reports it).
    """

    then: str = "ok"
    seconds: float = 0.01
    until: int = 99


TASKS = (
    Task(),
    Task(seconds=0.3),
    Task(seconds=1.0),
    Task(seconds=4.0),
    Task("fail", seconds=0.3),
    Task("fail", until=1),
    Task("fail", seconds=1.0, until=2),
    Task("unpicklable"),
    Task("dies", until=1),
    Task("dies", seconds=0.5, until=2),
    Task("dies", seconds=0.2),
    Task("oom", until=1),
    Task("oom", seconds=0.2),
    Task("short", until=1),
    Task("short", seconds=0.3, until=2),
)
GOOD = TASKS[:4]
#: Half of the tasks, or more, are good ones.
MIXED = GOOD * 4 + TASKS


@dataclass(frozen=True)
class Case:
    """A job and its surroundings.

    There are `jobs` of its kind, which come `apart` seconds apart and share the workers. `ready`
    workers are there when they come; faults go on for `rest` seconds after the last event.
    """

    jobs: int = 1
    apart: float = 0.0
    total: int = 1
    parallelism: int = 1
    max_attempts: int = 1
    max_disruptions: int = 0
    backoff: float = 0.0
    more_memory: bool = False
    speculation: bool = False
    inline: bool = False
    prints: bool = False
    max_workers: int = 1
    ready: int = 0
    network: float = 0.001
    bucket: float = 0.002
    status: float = 0.02
    tasks: tuple[Task, ...] = (Task(),)
    rest: float = 5.0

    def of(self, n: int) -> Case:
        """Return the n-th job's, which differs from the first one's."""
        k = n % len(self.tasks)
        return replace(
            self,
            total=max(1, self.total // (n + 1)),
            parallelism=(self.parallelism + n - 1) % 4 + 1,
            tasks=self.tasks[k:] + self.tasks[:k],
        )


#: Which worker: by its place in line, or one with a task that another one has, too.
WORKERS: tuple[object, ...] = (0, 1, 2, "twin")
JOBS = range(2)

#: Restarts, and what people do: nothing here takes a task away from its worker.
GENTLE: tuple[tuple[object, ...], ...] = (
    ("restart", 0.0, "lost"),
    ("restart", 0.5, "lost"),
    ("restart", 5.0, "lost"),
    ("restart", 0.0, "lands"),
    ("restart", 0.5, "lands"),
    ("restart at write", 1, 0.0),
    ("restart at write", 1, 0.5),
    ("restart at write", 2, 0.0),
    ("restart at write", 3, 5.0),
    *(("parallelism", job, n) for job in JOBS for n in range(1, 5)),
    *(("bucket", kind) for kind in ("before", "after")),
    ("bucket-down", 0.3),
    ("bucket-down", 4.0),
)

EVENTS: tuple[tuple[object, ...], ...] = (
    *GENTLE,
    *GENTLE[:9],
    ("restart", 0.1, "late"),
    ("restart", 1.0, "late"),
    ("usurp", 0, 1.0),
    ("usurp", 1, 3.0),
    ("usurp", 3, 30.0),
    ("bucket", "hang before"),
    ("bucket", "hang after"),
    ("bucket-down", 30.0),
    *(("lose", n, what, part) for n in WORKERS for what in ("poll", "report") for part in (0, 1)),
    *(("cut", n, seconds) for n in WORKERS for seconds in (2.0, 25.0, 50.0, 70.0)),
    *(("crash", n, cause, known) for n in WORKERS for cause in ("disruption", "oom")
      for known in (True, False)),
    *(("delete", n, zombie) for n in WORKERS for zombie in (0.0, 3.0)),
    *(("retire", n) for n in WORKERS),
    *((verb, job) for verb in ("suspend", "resume") for job in JOBS for _ in range(2)),
    *(("give up", job, size) for job in JOBS for size in (2, 3)),
    ("fatal", 0),
    ("cancel", 0),
    ("cancel", 1),
)  # fmt: skip


def cases(tasks: tuple[Task, ...] = MIXED, **fixed: Any) -> st.SearchStrategy[Case]:
    """Return jobs whose tasks are some of `tasks`, and that have the `fixed` fields."""
    drawn = {name: st.just(value) for name, value in fixed.items()}
    sorts = st.lists(st.sampled_from(tasks), min_size=1, max_size=6).map(tuple)
    return st.builds(Case, **{**_FIELDS, "tasks": sorts, **drawn})


_FIELDS: dict[str, st.SearchStrategy[Any]] = dict(
    jobs=st.sampled_from((1, 1, 2, 3)),
    apart=st.sampled_from((0.0, 0.5, 3.0)),
    total=st.one_of(st.integers(1, 10), st.integers(8, 24)),
    parallelism=st.integers(1, 4),
    max_attempts=st.integers(1, 3),
    max_disruptions=st.integers(0, 2),
    backoff=st.sampled_from((0.0, 0.4)),
    more_memory=st.booleans(),
    speculation=st.booleans(),
    inline=st.booleans(),
    prints=st.booleans(),
    max_workers=st.integers(1, 4),
    ready=st.integers(0, 3),
    network=st.sampled_from((0.001, 0.05)),
    bucket=st.sampled_from((0.002, 0.02, 0.3)),
    status=st.sampled_from((0.02, 1.0, 20.0)),
    rest=st.sampled_from((5.0, 1.0, 90.0)),
)


def sequences(
    events: tuple[tuple[object, ...], ...] = EVENTS, most: int = 24
) -> st.SearchStrategy[list[Event]]:
    """Return lists of events, or of a few of them, each with the seconds before it."""
    few = st.lists(st.sampled_from(events), min_size=1, max_size=5, unique=True)
    some = few.flatmap(lambda drawn: _sequences(tuple(drawn), most))
    return st.one_of(_sequences(events, most), some)


def _sequences(events: tuple[tuple[object, ...], ...], most: int) -> st.SearchStrategy[list[Event]]:
    one = st.tuples(st.sampled_from(PAUSES), st.sampled_from(events))
    return st.one_of(st.lists(one, max_size=5), st.lists(one, min_size=5, max_size=most))
