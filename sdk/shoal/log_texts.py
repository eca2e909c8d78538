"""What a run's tasks printed, as text: of all of them, of one task, of one attempt.

It is read from the bucket, so it is there when the run has ended and its Pods are gone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from shoal.errors import ConfigurationError
from shoal.machinery import Ended, Printed, Run
from shoal.printing import Printer


def find(name: str, task: int | None) -> tuple[str, int | None]:
    """Return the run's name and the task, where `name` may be a `TaskResult.log_file_name`.

    Raises:
        ConfigurationError: it is of another task, or no such name.
    """
    run, named = _parse(name)
    if named is not None and task not in (None, named):
        raise ConfigurationError(f"{name} is the log of task {named}, not of task {task}")
    return run, named if task is None else task


async def pieces(
    run: Run, task: int | None, attempt: int | None, *, follow: bool
) -> AsyncGenerator[str, None]:
    """Yield what was printed so far, and with `follow` what is printed until the run's end."""
    if task is not None and not (isinstance(task, int) and 0 <= task < run.total):
        raise ConfigurationError(
            f"{run.full_name} has no task {task!r}: its tasks are 0 to {run.total - 1}"
        )
    left = 0 if follow else (await run.status()).get("logs", {}).get("length", 0)
    if not left and not follow:
        return
    text: list[str] = []
    printer = Printer(prefixed=run.kind == "map" and task is None, write=text.append)
    async with aclosing(run.events(logs=True, results=False)) as events:
        async for event in events:
            if isinstance(event, Printed):
                left -= 1
                printer.show(
                    [
                        output
                        for output in event.outputs
                        if task in (None, output.index) and attempt in (None, output.attempt)
                    ]
                )
            if text:
                yield "".join(text)
                text.clear()
            if isinstance(event, Ended) or (left <= 0 and not follow):
                break
    printer.close()
    if text:
        yield "".join(text)


def _parse(name: str) -> tuple[str, int | None]:
    """Return the run's name, and the task of a task's log."""
    parts = name.split("/")
    if len(parts) > 2 and parts[2] == "logs":
        rest = parts[3:]
        if not rest:
            return "/".join(parts[:2]), None
        if len(rest) == 1 and rest[0].isdecimal():
            return "/".join(parts[:2]), int(rest[0])
    if len(parts) > 2:
        raise ConfigurationError(
            f"{name!r} is no run's name (x, mapjobs.shoal.dev/x) and no log_file_name of a task"
        )
    return name, None
