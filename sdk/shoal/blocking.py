"""The same functions for code without an event loop; they also work inside a notebook.

    from shoal import blocking

    blocking.run_map(f, items, shoal.Kubernetes())

Generated from `shoal.api` and `shoal.handle` by ``python -m shoal.blocking_gen``: change those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from shoal import api, loop_thread
from shoal import handle as asynchronous
from shoal.arguments import AnyDeployment, Containers, Ports
from shoal.hosts import Host
from shoal.results import TaskResult
from shoal.sizing import Resources

if TYPE_CHECKING:
    from shoal.resources import JobStatus, MapJobStatus

T = TypeVar("T")
U = TypeVar("U")


def run_function(
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

    See `shoal.run_function` for arguments and errors.
    """
    return loop_thread.run(
        api.run_function(
            function=function,
            host=host,
            resources=resources,
            deployment=deployment,
            args=args,
            kwargs=kwargs,
            sidecar_containers=sidecar_containers,
            ports=ports,
            wait_for_result=wait_for_result,
            max_num_task_attempts=max_num_task_attempts,
            retry_with_more_memory=retry_with_more_memory,
            task_timeout_seconds=task_timeout_seconds,
            detach_on_interrupt=detach_on_interrupt,
            name=name,
            dry_run=dry_run,
        )
    )


def run_command(
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

    See `shoal.run_command` for arguments and errors.
    """
    return loop_thread.run(
        api.run_command(
            args=args,
            host=host,
            resources=resources,
            deployment=deployment,
            context_variables=context_variables,
            sidecar_containers=sidecar_containers,
            ports=ports,
            wait_for_result=wait_for_result,
            max_num_task_attempts=max_num_task_attempts,
            retry_with_more_memory=retry_with_more_memory,
            task_timeout_seconds=task_timeout_seconds,
            detach_on_interrupt=detach_on_interrupt,
            name=name,
            dry_run=dry_run,
        )
    )


def run_map(
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

    See `shoal.run_map` for arguments and errors.
    """
    return loop_thread.run(
        api.run_map(
            function=function,
            args=args,
            host=host,
            resources_per_task=resources_per_task,
            deployment=deployment,
            num_concurrent_tasks=num_concurrent_tasks,
            sidecar_containers=sidecar_containers,
            ports=ports,
            wait_for_result=wait_for_result,
            max_num_task_attempts=max_num_task_attempts,
            retry_with_more_memory=retry_with_more_memory,
            task_timeout_seconds=task_timeout_seconds,
            speculation=speculation,
            detach_on_interrupt=detach_on_interrupt,
            name=name,
            dry_run=dry_run,
            logs=logs,
        )
    )


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
) -> Iterator[TaskResult[Any]]:
    """Do as `run_map`, but yield each task's `TaskResult` when it is there.

    See `shoal.run_map_as_completed` for arguments and errors.
    """
    return loop_thread.iterate(
        aiter(
            api.run_map_as_completed(
                function=function,
                args=args,
                host=host,
                resources_per_task=resources_per_task,
                deployment=deployment,
                num_concurrent_tasks=num_concurrent_tasks,
                sidecar_containers=sidecar_containers,
                ports=ports,
                max_num_task_attempts=max_num_task_attempts,
                retry_with_more_memory=retry_with_more_memory,
                task_timeout_seconds=task_timeout_seconds,
                speculation=speculation,
                detach_on_interrupt=detach_on_interrupt,
                name=name,
                logs=logs,
            )
        )
    )


def submit_function(
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
    """Do as `run_function`, but return a handle as soon as it is submitted.

    See `shoal.submit_function` for arguments and errors.
    """
    return JobHandle(
        loop_thread.run(
            api.submit_function(
                function=function,
                host=host,
                resources=resources,
                deployment=deployment,
                args=args,
                kwargs=kwargs,
                sidecar_containers=sidecar_containers,
                ports=ports,
                max_num_task_attempts=max_num_task_attempts,
                retry_with_more_memory=retry_with_more_memory,
                task_timeout_seconds=task_timeout_seconds,
                name=name,
            )
        )
    )


def submit_command(
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
    """Do as `run_command`, but return a handle as soon as it is submitted.

    See `shoal.submit_command` for arguments and errors.
    """
    return JobHandle(
        loop_thread.run(
            api.submit_command(
                args=args,
                host=host,
                resources=resources,
                deployment=deployment,
                context_variables=context_variables,
                sidecar_containers=sidecar_containers,
                ports=ports,
                max_num_task_attempts=max_num_task_attempts,
                retry_with_more_memory=retry_with_more_memory,
                task_timeout_seconds=task_timeout_seconds,
                name=name,
            )
        )
    )


def submit_map(
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

    See `shoal.submit_map` for arguments and errors.
    """
    return JobHandle(
        loop_thread.run(
            api.submit_map(
                function=function,
                args=args,
                host=host,
                resources_per_task=resources_per_task,
                deployment=deployment,
                num_concurrent_tasks=num_concurrent_tasks,
                sidecar_containers=sidecar_containers,
                ports=ports,
                max_num_task_attempts=max_num_task_attempts,
                retry_with_more_memory=retry_with_more_memory,
                task_timeout_seconds=task_timeout_seconds,
                speculation=speculation,
                name=name,
            )
        )
    )


def attach(name: str, host: Host | None = None) -> JobHandle:
    """Return the handle of a run that was submitted before, from any process or machine.

    See `shoal.attach` for arguments and errors.
    """
    return JobHandle(loop_thread.run(api.attach(name=name, host=host)))


def logs(
    name: str,
    host: Host | None = None,
    *,
    task: int | None = None,
    attempt: int | None = None,
    follow: bool = False,
) -> str:
    """Return what the tasks of a run printed, while it runs or after its Pods are gone.

    See `shoal.logs` for arguments and errors.
    """
    return loop_thread.run(
        api.logs(name=name, host=host, task=task, attempt=attempt, follow=follow)
    )


class JobHandle:
    """What the submit functions and `attach` return; see `shoal.JobHandle`."""

    def __init__(self, run: asynchronous.JobHandle) -> None:
        self._handle = run

    def __repr__(self) -> str:
        return repr(self._handle)

    @property
    def name(self) -> str:
        """Return the name by which `shoal.attach` finds it from anywhere."""
        return self._handle.name

    @property
    def full_name(self) -> str:
        """Return the name with its kind, such as ``mapjobs.shoal.dev/x``."""
        return self._handle.full_name

    def status(self) -> JobStatus | MapJobStatus:
        """Return the status as it is now (`shoal.resources`): phase, counts, conditions."""
        return loop_thread.run(self._handle.status())

    def wait(self) -> JobStatus | MapJobStatus:
        """Wait for the end, however it ends, and return the last status."""
        return loop_thread.run(self._handle.wait())

    def result(self) -> Any:
        """Wait, and return or raise what the matching run function would."""
        return loop_thread.run(self._handle.result())

    def results(self, *, after: str | None = None) -> Iterator[TaskResult[Any]]:
        """Yield the tasks' outcomes, those that are there and then the others as they come."""
        return loop_thread.iterate(self._handle.results(after=after))

    def logs(
        self, *, task: int | None = None, attempt: int | None = None, follow: bool = False
    ) -> str:
        """Return what was printed so far; with `follow`, at the end."""
        return loop_thread.run(self._handle.logs(task=task, attempt=attempt, follow=follow))

    def follow_logs(self, *, task: int | None = None, attempt: int | None = None) -> Iterator[str]:
        """Yield what `logs` returns, and then what is printed until the end, as it comes."""
        return loop_thread.iterate(self._handle.follow_logs(task=task, attempt=attempt))

    def suspend(self) -> None:
        """Pause it: its tasks are taken back, and its workers are free for others."""
        loop_thread.run(self._handle.suspend())

    def resume(self) -> None:
        """Let a suspended run go on."""
        loop_thread.run(self._handle.resume())

    def set_parallelism(self, workers: int) -> None:
        """Set how many workers a map may have at one time; those beyond end their tasks first."""
        loop_thread.run(self._handle.set_parallelism(workers=workers))

    def cancel(self) -> None:
        """End it; finished tasks keep their results. No error if it has ended already."""
        loop_thread.run(self._handle.cancel())

    def delete(self) -> None:
        """Remove it with all that belongs to it, running or not."""
        loop_thread.run(self._handle.delete())
