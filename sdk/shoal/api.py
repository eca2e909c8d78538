"""The run functions: what a user calls.

A call enters here, is checked (`shoal.arguments`), becomes a `shoal.machinery.Call`, and goes to
its host's machinery; what comes back is read by `shoal.outcome`. All are asynchronous;
`shoal.blocking` has the same functions for code without an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from shoal import arguments, log_texts, outcome
from shoal.arguments import AnyDeployment, Containers, Draft, Ports, Tries
from shoal.as_completed import TasksAsCompleted
from shoal.errors import ConfigurationError
from shoal.handle import JobHandle
from shoal.hosts import Host, Kubernetes
from shoal.machinery import Run
from shoal.progress import bar
from shoal.sizing import Resources
from shoal.waiting import guarded

T = TypeVar("T")
U = TypeVar("U")


async def run_function(
    function: Callable[..., T] | str,
    host: Host,
    resources: Resources | None = None,
    deployment: AnyDeployment = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    wait_for_result: bool = True,
    *,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    task_timeout_seconds: int | None = None,
    detach_on_interrupt: bool = False,
    name: str | None = None,
    dry_run: bool = False,
) -> Any:
    """Call ``function(*args, **kwargs)`` on the host and return its result.

    Args:
        function: a callable (a lambda, closure or method too), or "package.module.function", which
            has to be importable only where it runs.
        host: `Kubernetes` or `Local`.
        resources: CPU, memory and disk that it needs.
        deployment: where the code runs, or what awaits to it; None is `Deployment.mirror_local()`.
        args: positional arguments.
        kwargs: keyword arguments.
        sidecar_containers: comes with a later version.
        ports: comes with a later version.
        wait_for_result: False returns None as soon as it is submitted (`submit_function` returns
            a handle instead).
        max_num_task_attempts: how often it is tried in all if it fails.
        retry_with_more_memory: the n-th attempt gets n times the memory of `resources`.
        task_timeout_seconds: seconds after which an attempt is killed, and has failed.
        detach_on_interrupt: Ctrl-C, or cancelling this coroutine, leaves it running; else it is
            cancelled, and gone a minute later.
        name: of the custom resource; None draws one.
        dry_run: return the resource that would be created, and create nothing.

    Raises:
        TaskException: the function raised; the remote traceback is in the message.
        JobFailedException: it could not run; see `shoal.errors` for the reasons.
        ConfigurationError: an argument can't be right.
        Unpicklable: the function or an argument can't be pickled.
    """
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds)
    draft = arguments.function_call(
        function, host, resources, deployment, args, kwargs, sidecar_containers, ports, name, tries
    )
    return await _one(
        host, draft, wait=wait_for_result, detach=detach_on_interrupt, dry_run=dry_run
    )


async def run_command(
    args: str | Sequence[str],
    host: Host,
    resources: Resources | None = None,
    deployment: AnyDeployment = None,
    context_variables: Mapping[str, Any] | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    wait_for_result: bool = True,
    *,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    task_timeout_seconds: int | None = None,
    detach_on_interrupt: bool = False,
    name: str | None = None,
    dry_run: bool = False,
) -> Any:
    """Run a command on the host and return its `JobCompletion`.

    Args:
        args: a list, or a string that is split as a shell splits it; no shell runs it.
        host: `Kubernetes` or `Local`.
        resources: CPU, memory and disk that it needs.
        deployment: where it runs; with `Deployment.container_image` no bucket is needed.
        context_variables: picklable values that the command finds in its context file.
        sidecar_containers: comes with a later version.
        ports: comes with a later version.
        wait_for_result: False returns None as soon as it is submitted.
        max_num_task_attempts, retry_with_more_memory, task_timeout_seconds, detach_on_interrupt:
            as in `run_function`.
        name: of the custom resource; None draws one.
        dry_run: return the resource that would be created, and create nothing.

    Raises:
        CommandFailedException: its exit code is not 0.
        JobFailedException, ConfigurationError, Unpicklable: as in `run_function`.
    """
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds)
    draft = arguments.command_call(
        args, host, resources, deployment, context_variables, sidecar_containers, ports, name, tries
    )
    return await _one(
        host, draft, wait=wait_for_result, detach=detach_on_interrupt, dry_run=dry_run
    )


async def run_map(
    function: Callable[[T], U] | str,
    args: Sequence[T],
    host: Host,
    resources_per_task: Resources | None = None,
    deployment: AnyDeployment = None,
    num_concurrent_tasks: int | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    wait_for_result: bool = True,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    *,
    task_timeout_seconds: int | None = None,
    speculation: bool = False,
    detach_on_interrupt: bool = False,
    name: str | None = None,
    dry_run: bool = False,
    logs: bool = False,
) -> Any:
    """Call ``function(item)`` for each item of `args`, in parallel; return the list of results.

    Args:
        function: as in `run_function`; it gets one item.
        args: the items. An empty sequence returns [] at once.
        host: `Kubernetes` or `Local`.
        resources_per_task: CPU, memory and disk that one task needs.
        deployment: where the code runs; None is `Deployment.mirror_local()`.
        num_concurrent_tasks: workers at one time; None is half the items plus one. The operator
            caps it.
        sidecar_containers: comes with a later version.
        ports: comes with a later version.
        wait_for_result: False returns None as soon as it is submitted.
        max_num_task_attempts: how often a task that fails is tried in all.
        retry_with_more_memory: the n-th attempt of a task gets n times `resources_per_task`'s
            memory, on a worker of that size. On this machine (`Local`) memory is not limited.
        task_timeout_seconds: seconds after which a task's attempt is killed, and has failed.
        speculation: near the end, workers without work take a second copy of the slowest tasks, and
            the first result counts: for functions that may run twice.
        detach_on_interrupt: Ctrl-C, or cancelling this coroutine, leaves the map running; else it
            is cancelled, and gone a minute later.
        name: of the custom resource; None draws one.
        dry_run: return the resource that would be created, and create nothing.
        logs: print what the tasks print, each line with its task's index.

    Raises:
        RunMapTasksFailedException: tasks failed; it has the other results.
        JobFailedException, ConfigurationError, Unpicklable: as in `run_function`.
    """
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds, speculation)
    draft = arguments.map_call(
        function,
        args,
        host,
        resources_per_task,
        deployment,
        num_concurrent_tasks,
        sidecar_containers,
        ports,
        name,
        tries,
    )
    if dry_run:
        return await host.machinery().manifest(await draft.call()) if draft.items else None
    if not draft.items:
        return [] if wait_for_result else None
    run = await _submit(host, draft)
    if not wait_for_result:
        return None
    with bar(run) as shown:
        observe = shown.observe if shown else None
        waiting = outcome.whole(run, logs=logs, observe=observe)
        return await guarded(run, waiting, detach=detach_on_interrupt)


def run_map_as_completed(
    function: Callable[[T], U] | str,
    args: Sequence[T],
    host: Host,
    resources_per_task: Resources | None = None,
    deployment: AnyDeployment = None,
    num_concurrent_tasks: int | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    *,
    task_timeout_seconds: int | None = None,
    speculation: bool = False,
    detach_on_interrupt: bool = False,
    name: str | None = None,
    logs: bool = False,
) -> TasksAsCompleted:
    """Do as `run_map`, but yield each task's `TaskResult` when it is there.

    ``async for task in run_map_as_completed(...)`` and ``async for task in await
    run_map_as_completed(...)`` both work; the second has submitted the map before the loop begins.
    A task that failed is yielded too, and raises at its ``result_or_raise()``. Leaving the loop
    early (break, an error, Ctrl-C) cancels the map, unless `detach_on_interrupt`.

    Raises:
        JobFailedException: the map ended before all of its tasks did (cancelled, deadline, ...).
        ConfigurationError, Unpicklable: as in `run_function`.
    """
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds, speculation)
    draft = arguments.map_call(
        function,
        args,
        host,
        resources_per_task,
        deployment,
        num_concurrent_tasks,
        sidecar_containers,
        ports,
        name,
        tries,
    )
    return TasksAsCompleted(host, draft, logs=logs, detach=detach_on_interrupt)


async def submit_function(
    function: Callable[..., Any] | str,
    host: Host,
    resources: Resources | None = None,
    deployment: AnyDeployment = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    *,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    task_timeout_seconds: int | None = None,
    name: str | None = None,
) -> JobHandle:
    """Do as `run_function`, but return a handle as soon as it is submitted."""
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds)
    draft = arguments.function_call(
        function, host, resources, deployment, args, kwargs, sidecar_containers, ports, name, tries
    )
    return JobHandle(await _submit(host, draft))


async def submit_command(
    args: str | Sequence[str],
    host: Host,
    resources: Resources | None = None,
    deployment: AnyDeployment = None,
    context_variables: Mapping[str, Any] | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    *,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    task_timeout_seconds: int | None = None,
    name: str | None = None,
) -> JobHandle:
    """Do as `run_command`, but return a handle as soon as it is submitted."""
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds)
    draft = arguments.command_call(
        args, host, resources, deployment, context_variables, sidecar_containers, ports, name, tries
    )
    return JobHandle(await _submit(host, draft))


async def submit_map(
    function: Callable[[T], Any] | str,
    args: Sequence[T],
    host: Host,
    resources_per_task: Resources | None = None,
    deployment: AnyDeployment = None,
    num_concurrent_tasks: int | None = None,
    sidecar_containers: Containers = None,
    ports: Ports = None,
    max_num_task_attempts: int = 1,
    retry_with_more_memory: bool = False,
    *,
    task_timeout_seconds: int | None = None,
    speculation: bool = False,
    name: str | None = None,
) -> JobHandle:
    """Do as `run_map`, but return a handle as soon as it is submitted.

    Raises ConfigurationError for an empty map, of which there is nothing to follow.
    """
    tries = Tries(max_num_task_attempts, retry_with_more_memory, task_timeout_seconds, speculation)
    draft = arguments.map_call(
        function,
        args,
        host,
        resources_per_task,
        deployment,
        num_concurrent_tasks,
        sidecar_containers,
        ports,
        name,
        tries,
    )
    if not draft.items:
        raise ConfigurationError("submit_map: there are no items, so there is nothing to submit")
    return JobHandle(await _submit(host, draft))


async def attach(name: str, host: Host | None = None) -> JobHandle:
    """Return the handle of a run that was submitted before, from any process or machine.

    Args:
        name: its name, or its full name (``mapjobs.shoal.dev/x``).
        host: where it was submitted to; None is ``Kubernetes()``.

    Raises:
        JobNotFound: there is none of that name (any more).
    """
    return JobHandle(await (host or Kubernetes()).machinery().attach(name))


async def logs(
    name: str,
    host: Host | None = None,
    *,
    task: int | None = None,
    attempt: int | None = None,
    follow: bool = False,
) -> str:
    """Return what the tasks of a run printed, while it runs or after its Pods are gone.

    Args:
        name: of the run, or its full name; a `TaskResult.log_file_name` works, too.
        host: where it was submitted to; None is ``Kubernetes()``.
        task: of this task alone; None is all, each line with its task's index.
        attempt: of this attempt alone.
        follow: wait until the run ends (`JobHandle.follow_logs` yields it as it comes).

    Raises:
        JobNotFound: there is no run of that name (any more).
    """
    run, task = log_texts.find(name, task)
    handle = await attach(run, host)
    return await handle.logs(task=task, attempt=attempt, follow=follow)


async def _submit(host: Host, draft: Draft) -> Run:
    return await host.machinery().submit(await draft.call())


async def _one(host: Host, draft: Draft, *, wait: bool, detach: bool, dry_run: bool) -> Any:
    """Submit a function or a command, and wait for it if that is wanted."""
    if dry_run:
        return await host.machinery().manifest(await draft.call())
    run = await _submit(host, draft)
    return await guarded(run, outcome.single(run, logs=True), detach=detach) if wait else None
