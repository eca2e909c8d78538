"""Shoal runs Python functions, commands and maps on Kubernetes.

    import shoal

    await shoal.run_function(lambda: sum(range(1000)), shoal.Kubernetes())
    await shoal.run_map(f, items, shoal.Kubernetes(), shoal.Resources(1, 2))

The names are loaded when they are used, so that ``import shoal`` costs nothing and works in a plain
Python image, where a worker imports the user's modules (`PLAIN_MODULES` is what is there then).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from shoal import blocking as blocking
    from shoal import resources as resources
    from shoal.api import (
        attach,
        logs,
        run_command,
        run_function,
        run_map,
        run_map_as_completed,
        submit_command,
        submit_function,
        submit_map,
    )
    from shoal.buckets import GenericStorageBucketSpec, GoogleBucketSpec, StorageBucketSpec
    from shoal.deployment import Deployment
    from shoal.errors import (
        CommandFailedException,
        ConfigurationError,
        JobFailedException,
        NotSupportedYet,
        RunMapTasksFailedException,
        ShoalException,
        TaskException,
        Unpicklable,
    )
    from shoal.handle import JobHandle
    from shoal.hosts import Host, Kubernetes, Local
    from shoal.interpreters import (
        MEADOWRUN_INTERPRETER,
        SHOAL_INTERPRETER,
        AwsSecret,
        AzureSecret,
        CondaEnvironmentFile,
        ContainerAtDigestInterpreter,
        ContainerInterpreter,
        ContainerInterpreterBase,
        InterpreterSpecFile,
        KubernetesSecret,
        LocalCondaInterpreter,
        LocalInterpreter,
        LocalPipInterpreter,
        PipRequirementsFile,
        PoetryProjectPath,
        PreinstalledInterpreter,
        ScriptRequirements,
        Secret,
        UvProjectPath,
    )
    from shoal.results import JobCompletion, TaskResult
    from shoal.sizing import Resources
    from shoal.variables import ConfigMapKeyRef, ConfigMapRef, SecretKeyRef, SecretRef

_HOMES = {
    "api": (
        "attach logs run_command run_function run_map run_map_as_completed submit_command "
        "submit_function submit_map"
    ),
    "buckets": "GenericStorageBucketSpec GoogleBucketSpec StorageBucketSpec",
    "deployment": "Deployment",
    "errors": (
        "CommandFailedException ConfigurationError JobFailedException NotSupportedYet "
        "RunMapTasksFailedException ShoalException TaskException Unpicklable"
    ),
    "handle": "JobHandle",
    "hosts": "Host Kubernetes Local",
    "interpreters": (
        "AwsSecret AzureSecret CondaEnvironmentFile ContainerAtDigestInterpreter "
        "ContainerInterpreter ContainerInterpreterBase InterpreterSpecFile KubernetesSecret "
        "LocalCondaInterpreter LocalInterpreter LocalPipInterpreter MEADOWRUN_INTERPRETER "
        "PipRequirementsFile PoetryProjectPath PreinstalledInterpreter SHOAL_INTERPRETER "
        "ScriptRequirements Secret UvProjectPath"
    ),
    "results": "JobCompletion TaskResult",
    "sizing": "Resources",
    "variables": "ConfigMapKeyRef ConfigMapRef SecretKeyRef SecretRef",
}
_MODULES = ("blocking", "errors", "resources")

PLAIN_MODULES = (
    "__init__",
    "buckets",
    "deployment",
    "errors",
    "hosts",
    "interpreters",
    "results",
    "sizing",
    "variables",
)
"""Modules of this package that need the standard library of Python 3.9 only; workers carry them."""

_home_of = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "MEADOWRUN_INTERPRETER",
    "SHOAL_INTERPRETER",
    "AwsSecret",
    "AzureSecret",
    "CommandFailedException",
    "CondaEnvironmentFile",
    "ConfigMapKeyRef",
    "ConfigMapRef",
    "ConfigurationError",
    "ContainerAtDigestInterpreter",
    "ContainerInterpreter",
    "ContainerInterpreterBase",
    "Deployment",
    "GenericStorageBucketSpec",
    "GoogleBucketSpec",
    "Host",
    "InterpreterSpecFile",
    "JobCompletion",
    "JobFailedException",
    "JobHandle",
    "Kubernetes",
    "KubernetesSecret",
    "Local",
    "LocalCondaInterpreter",
    "LocalInterpreter",
    "LocalPipInterpreter",
    "NotSupportedYet",
    "PipRequirementsFile",
    "PoetryProjectPath",
    "PreinstalledInterpreter",
    "Resources",
    "RunMapTasksFailedException",
    "ScriptRequirements",
    "Secret",
    "SecretKeyRef",
    "SecretRef",
    "ShoalException",
    "StorageBucketSpec",
    "TaskException",
    "TaskResult",
    "Unpicklable",
    "UvProjectPath",
    "__version__",
    "attach",
    "blocking",
    "errors",
    "logs",
    "resources",
    "run_command",
    "run_function",
    "run_map",
    "run_map_as_completed",
    "submit_command",
    "submit_function",
    "submit_map",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"shoal.{name}")
    if name not in _home_of:
        raise AttributeError(f"module 'shoal' has no attribute {name!r}")
    home = f"shoal.{_home_of[name]}"
    try:
        value = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        value = _only_at_the_client(name)
    globals()[name] = value
    return value


def _only_at_the_client(name: str) -> Any:
    """Return what stands for a run function inside a worker, so that modules can import it."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        from shoal.errors import SubmissionRefused

        raise SubmissionRefused(
            f"shoal.{name} can't be used inside a worker, which has only a part of shoal: put the "
            'call under `if __name__ == "__main__":`, or install shoal in the image'
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def __dir__() -> list[str]:
    return sorted(__all__)
