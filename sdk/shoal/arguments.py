"""Checks a user's arguments before anything is packed, uploaded or created.

A `Draft` is a call whose deployment has not been awaited yet, so that what is wrong is told at the
call itself.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shoal import callers
from shoal.deployment import Deployment, MirrorRequest
from shoal.errors import ConfigurationError, NotSupportedYet, SubmissionRefused
from shoal.hosts import Host, Kubernetes
from shoal.interpreters import ActiveEnvironment, ContainerInterpreterBase
from shoal.machinery import Call
from shoal.sizing import Resources

AnyDeployment = Deployment | Awaitable[Deployment] | None
Containers = Iterable[ContainerInterpreterBase] | ContainerInterpreterBase | None
Ports = Iterable[str] | str | Iterable[int] | int | None


@dataclass(frozen=True)
class Tries:
    """What a caller says of a task's attempts, before it is checked.

    Attributes:
        most: max_num_task_attempts.
        more_memory: retry_with_more_memory.
        seconds: task_timeout_seconds.
        speculation: of maps.
    """

    most: int = 1
    more_memory: bool = False
    seconds: int | None = None
    speculation: bool = False

    def fields(self, resources: Resources | None) -> dict[str, Any]:
        """Return the fields of the `Call`; `resources` are the first attempt's."""
        most = _whole("max_num_task_attempts", self.most)
        if self.more_memory and (resources is None or not resources.memory_gb):
            raise ConfigurationError(
                "retry_with_more_memory needs the memory of the first attempt: "
                "give Resources(memory_gb=...)"
            )
        if self.more_memory and most == 1:
            callers.warn(
                "retry_with_more_memory changes nothing while max_num_task_attempts is 1: "
                "raise it to 2 or more"
            )
        timeout = self.seconds
        return {
            "max_attempts": most,
            "more_memory": self.more_memory,
            "task_timeout": None if timeout is None else _whole("task_timeout_seconds", timeout),
            "speculation": self.speculation,
        }


@dataclass(frozen=True)
class Draft:
    """A checked call; `call` awaits its deployment."""

    fields: Mapping[str, Any]
    deployment: AnyDeployment

    @property
    def items(self) -> Sequence[Any]:
        """Return a map's items."""
        items: Sequence[Any] = self.fields.get("items", ())
        return items

    async def call(self) -> Call:
        """Return the call, its deployment read from this machine where that is asked for."""
        deployment = await _resolved(self.deployment)
        return Call(**self.fields, deployment=deployment)


def function_call(
    function: Callable[..., Any] | str,
    host: Host,
    resources: Resources | None,
    deployment: AnyDeployment,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    sidecar_containers: Containers,
    ports: Ports,
    name: str | None,
    tries: Tries,
) -> Draft:
    """Check the arguments of `run_function`."""
    common = _common(host, resources, deployment, sidecar_containers, ports, name)
    _check_function(function)
    if args is not None and (isinstance(args, str) or not isinstance(args, Iterable)):
        raise ConfigurationError(f"args must be a list or tuple of arguments, not {args!r}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ConfigurationError(f"kwargs must be a dict of arguments, not {kwargs!r}")
    fields = {
        **common,
        **tries.fields(resources),
        "kind": "function",
        "function": function,
        "args": tuple(args or ()),
        "kwargs": dict(kwargs or {}),
    }
    return Draft(fields, deployment)


def command_call(
    args: str | Sequence[str],
    host: Host,
    resources: Resources | None,
    deployment: AnyDeployment,
    context_variables: Mapping[str, Any] | None,
    sidecar_containers: Containers,
    ports: Ports,
    name: str | None,
    tries: Tries,
) -> Draft:
    """Check the arguments of `run_command`."""
    common = _common(host, resources, deployment, sidecar_containers, ports, name)
    try:
        argv = shlex.split(args) if isinstance(args, str) else list(args)
    except ValueError as error:
        raise ConfigurationError(f"args can't be split as a shell would: {error}") from error
    if not argv or not all(isinstance(word, str) for word in argv):
        raise ConfigurationError(
            f"args must be a command and its arguments, as a string or a list of strings: {args!r}"
        )
    if context_variables is not None and not isinstance(context_variables, Mapping):
        raise ConfigurationError(f"context_variables must be a dict, not {context_variables!r}")
    fields = {**common, **tries.fields(resources), "kind": "command"}
    return Draft({**fields, "argv": argv, "context": context_variables}, deployment)


def map_call(
    function: Callable[..., Any] | str,
    args: Sequence[Any],
    host: Host,
    resources_per_task: Resources | None,
    deployment: AnyDeployment,
    num_concurrent_tasks: int | None,
    sidecar_containers: Containers,
    ports: Ports,
    name: str | None,
    tries: Tries,
) -> Draft:
    """Check the arguments of the functions for maps."""
    common = _common(host, resources_per_task, deployment, sidecar_containers, ports, name)
    _check_function(function)
    if isinstance(args, str | bytes) or not isinstance(args, Iterable):
        raise ConfigurationError(f"args must be the sequence of items, not {type(args).__name__}")
    items = args if isinstance(args, Sequence) else list(args)
    fields = {
        **common,
        **tries.fields(resources_per_task),
        "kind": "map",
        "function": function,
        "items": items,
        "parallelism": _parallelism(num_concurrent_tasks, len(items)),
    }
    return Draft(fields, deployment)


def refuse_in_an_import() -> None:
    """Raise SubmissionRefused if the caller runs because a module is being imported.

    Workers import that module too, and each would submit again. On this machine a function of a
    module that is not whole yet can't be pickled either.
    """
    module = "this module" if os.environ.get("SHOAL_IMPORTING") else None
    frame = None if module else inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            spec = frame.f_globals.get("__spec__")
            if getattr(spec, "_initializing", False):
                module = f"the module {frame.f_globals.get('__name__')}"
        frame = frame.f_back
    if module:
        raise SubmissionRefused(
            f"A job is submitted while {module} is being imported. Workers import it too, and each "
            'would submit the job again: put the call under `if __name__ == "__main__":`'
        )


def _common(
    host: Host,
    resources: Resources | None,
    deployment: AnyDeployment,
    sidecar_containers: Containers,
    ports: Ports,
    name: str | None,
) -> dict[str, Any]:
    refuse_in_an_import()
    if not isinstance(host, Host):
        raise ConfigurationError(f"host must be shoal.Kubernetes() or shoal.Local(), not {host!r}")
    if resources is not None and not isinstance(resources, Resources):
        raise ConfigurationError(f"resources must be a shoal.Resources(...), not {resources!r}")
    if not (
        deployment is None or isinstance(deployment, Deployment) or inspect.isawaitable(deployment)
    ):
        raise ConfigurationError(f"deployment must be a shoal.Deployment, not {deployment!r}")
    for parameter, value in (("sidecar_containers", sidecar_containers), ("ports", ports)):
        if value is not None and value != () and value != []:
            raise NotSupportedYet(f"{parameter} comes with a later version: leave it out")
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(f"name must be a string, not {name!r}")
    own_workers = isinstance(host, Kubernetes) and not host.reusable_pods
    return {"name": name, "resources": resources, "own_workers": own_workers}


def _check_function(function: object) -> None:
    if isinstance(function, str):
        if not all(part.isidentifier() for part in function.split(".")) or "." not in function:
            raise ConfigurationError(
                f"The function {function!r} must be importable where it runs, and so be named "
                'with its module: "package.module.function"'
            )
    elif not callable(function):
        raise ConfigurationError(
            f'function must be a callable or "package.module.function", not {function!r}'
        )
    elif inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"{function!r} is an async function, which would return a coroutine: wrap "
            "it, for example lambda *args: asyncio.run(f(*args))"
        )


def _parallelism(wanted: int | None, count: int) -> int:
    if wanted is None:
        return count // 2 + 1
    return max(min(_whole("num_concurrent_tasks", wanted), count), 1)


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


async def _resolved(deployment: AnyDeployment) -> Deployment:
    if deployment is None:
        from shoal import mirror

        request = MirrorRequest.now()
        code = mirror.kept(request) or await asyncio.to_thread(mirror.collect, request)
        return Deployment(ActiveEnvironment(), code)
    if isinstance(deployment, Deployment):
        return deployment
    found = await deployment
    if not isinstance(found, Deployment):
        raise ConfigurationError(f"deployment awaited to {found!r}, which is no shoal.Deployment")
    return found
