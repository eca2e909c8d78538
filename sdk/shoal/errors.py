"""Every exception that Shoal raises, on one page.

::

    ShoalException
    ├── TaskException                a function raised; the remote traceback is in the message
    ├── RunMapTasksFailedException   tasks of a map failed; the other results are in `.results`
    ├── CommandFailedException       a command ended with a non-zero exit code
    ├── ConfigurationError           an argument or setting can't be right; nothing was started
    │   └── NotSupportedYet          ... it will be right in a later version
    ├── Unpicklable                  a function, argument or item can't be pickled (it says which)
    ├── SubmissionRefused            a job was submitted where that would repeat itself for ever
    ├── ApiError                     the Kubernetes API said no
    │   └── ApiUnreachable           ... or did not answer
    ├── StorageError                 the bucket said no
    │   ├── ObjectNotFound           ... the key does not exist
    │   ├── BucketNotFound, AccessDenied, StorageUnavailable    (these are JobFailed... too)
    └── JobFailedException           the job can't run, or was ended; `.reason` tells which:
        ├── DeadlineExceeded         its time was over
        ├── Cancelled                somebody cancelled it
        ├── JobDeleted               somebody deleted its custom resource while you waited
        ├── JobNotFound              there never was, or is no more, a job of that name
        ├── ImagePullFailed          the image can't be had
        ├── Unschedulable            no node had room for its Pods until its startDeadlineSeconds
        ├── QuotaExceeded            a quota had no room for its Pods until its startDeadlineSeconds
        ├── PodRejected              the API server or a quota refuses its Pods
        ├── DisruptionsExceeded      its Pods were taken away too often
        ├── CreateContainerConfigError  a Secret or ConfigMap that its variables name is missing
        ├── WorkerNoContact          its Pods run, but can't reach the operator
        ├── PythonMismatch           your Python and the image's can't read each other's pickles
        ├── DeploymentNotFound       the deployments.shoal.dev that it names does not exist
        ├── EnvironmentFailed        the packages that it needs could not be installed
        ├── NoBucket                 no bucket is configured
        ├── BucketNotFound, AccessDenied, StorageUnavailable    the bucket can't be used
        ├── ConditionalWritesUnsupported    the bucket ignores If-None-Match
        ├── SecretNotFound           the bucket's Secret, or a cloud's secret, can't be read
        ├── InputsNotFound, InputsCorrupt   what was uploaded is not there any more, or changed
        ├── LedgerTampered           somebody else wrote into the job's part of the bucket
        ├── IdInUse                  two custom resources claim the same id
        ├── NoOperator               nobody answers: is the operator installed and running?
        ├── CrdsNotInstalled         the cluster does not know jobs.shoal.dev
        └── NamespaceNotFound        the namespace does not exist

A reason is the same word here, in the condition of the custom resource and in its Events; a reason
that the client can find out itself is raised at submit, the others when the operator tells them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar


class ShoalException(Exception):
    """The root: ``except ShoalException`` catches all that Shoal itself raises."""


_MISSING_MODULE = (
    "The module is missing where the function ran. Is its name right? Then name the packages that "
    "it needs: deployment=shoal.Deployment.mirror_local("
    "interpreter=shoal.PipRequirementsFile('requirements.txt', '{}.{}')), or an image that has it: "
    "interpreter=shoal.ContainerInterpreter('repository', 'tag')"
)


class TaskException(ShoalException):
    """The function raised. ``type``, ``message`` and ``traceback`` are texts from the worker."""

    def __init__(self, type: str, message: str = "", traceback: str = "") -> None:
        super().__init__(type, message, traceback)
        self.type, self.message, self.traceback = type, message, traceback

    def __str__(self) -> str:
        head = f"{self.type}: {self.message}" if self.type else self.message
        if self.type == "ModuleNotFoundError":
            head += f"\n{_MISSING_MODULE.format(*sys.version_info)}"
        return f"{head}\n\nRemote traceback:\n{self.traceback.rstrip()}" if self.traceback else head


class RunMapTasksFailedException(ShoalException):
    """Some tasks of a map failed.

    ``results`` is as long as the items: each result, and None where a task failed.
    ``failed`` holds the TaskResult of each failed task, in the order of the items.
    """

    def __init__(self, results: Sequence[Any], failed: list[Any]) -> None:
        super().__init__(results, failed)
        self.results, self.failed = results, failed

    def __str__(self) -> str:
        lines = [f"{len(self.failed)} of {len(self.results)} tasks failed:"]
        for task in self.failed[:3]:
            type_, message, traceback = task.exception or ("", task.state, "")
            lines.append(f"task {task.task_id}, attempt {task.attempt}, {task.state}: ")
            lines[-1] += str(TaskException(type_, _short(message), _short(traceback)))
        if len(self.failed) > 3:
            lines.append(f"... and {len(self.failed) - 3} more; all of them are in `.failed`")
        return "\n".join([*lines, "The results of the other tasks are in `.results`."])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.failed)} of {len(self.results)} tasks failed>"


_SHOWN = 1500
"""Characters of a task's message and of its traceback where several tasks are shown."""


def _short(text: str) -> str:
    """Return the text's beginning and end; all of it is in `.failed`."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 3]}\n[...]\n{text[-_SHOWN // 3 * 2 :]}"


class CommandFailedException(ShoalException):
    """The command ended with ``return_code``; ``last_lines`` is the end of its output."""

    def __init__(self, return_code: int, last_lines: str = "", name: str = "") -> None:
        super().__init__(return_code, last_lines, name)
        self.return_code, self.last_lines, self.name = return_code, last_lines, name

    def __str__(self) -> str:
        where = f" ({self.name})" if self.name else ""
        tail = f"; its last lines:\n{self.last_lines.rstrip()}" if self.last_lines.strip() else ""
        return f"The command ended with exit code {self.return_code}{where}{tail}"


class ConfigurationError(ShoalException, ValueError):
    """An argument or a setting can't be right; the message names it and the remedy."""


class NotSupportedYet(ConfigurationError, NotImplementedError):
    """A parameter of the API that this version does not carry out, and so does not accept."""


class Unpicklable(ShoalException, TypeError):
    """A function, an argument or an item can't be pickled; ``item`` is its index in a map."""

    def __init__(self, message: str, item: int | None = None) -> None:
        super().__init__(message)
        self.item = item


class SubmissionRefused(ShoalException, RuntimeError):
    """A job was submitted while a worker imports the module, so each worker would start more."""


class ApiError(ShoalException):
    """The Kubernetes API refused: HTTP ``status``, machine-readable ``reason``, its words."""

    def __init__(
        self, status: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(status, reason, message, details)
        self.status, self.reason, self.message = status, reason, message
        self.details: dict[str, Any] = details or {}

    @property
    def may_heal(self) -> bool:
        """Whether the API server gave no answer, or none of its own: waiting may help."""
        return self.status in (0, 429) or self.status >= 500

    def __str__(self) -> str:
        return f"{self.message} ({self.status} {self.reason})" if self.status else self.message


class ApiUnreachable(ApiError):
    """No answer from the API server: address, network or certificate; ``status`` is 0."""


class StorageError(ShoalException):
    """The bucket refused; the message names bucket, endpoint and key."""


class ObjectNotFound(StorageError):
    """The key does not exist."""


class JobFailedException(ShoalException):
    """The job can't run or was ended; ``reason`` is a word of the closed list above.

    A subclass is named as its reason is; `job_failed` finds the subclass for a reason.
    """

    reason = "Failed"
    by_reason: ClassVar[dict[str, type[JobFailedException]]] = {}

    def __init_subclass__(cls) -> None:
        cls.reason = cls.__name__
        cls.by_reason[cls.reason] = cls

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message, reason)
        self.message = message
        self.reason = reason or type(self).reason

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def job_failed(reason: str, message: str) -> JobFailedException:
    """Make the exception for a condition's reason (the root class for one that is not listed)."""
    return JobFailedException.by_reason.get(reason, JobFailedException)(message, reason)


class DeadlineExceeded(JobFailedException):
    """The job's time (activeDeadlineSeconds) was over."""


class Cancelled(JobFailedException):
    """Somebody cancelled the job."""


class JobDeleted(JobFailedException):
    """Somebody deleted the job's custom resource while you waited for it."""


class ImagePullFailed(JobFailedException):
    """The image can't be had; the message has the registry's words."""


class JobNotFound(JobFailedException):
    """There is no job of that name: it never was, or it was deleted."""


class Unschedulable(JobFailedException):
    """No node had room for the job's Pods within its startDeadlineSeconds."""


class QuotaExceeded(JobFailedException):
    """A quota of the namespace had no room for the job's Pods within its startDeadlineSeconds."""


class PodRejected(JobFailedException):
    """The API server, an admission rule or a quota refuses the job's Pods."""


class DisruptionsExceeded(JobFailedException):
    """The job's Pods were taken away more often than maxDisruptions."""


class CreateContainerConfigError(JobFailedException):
    """A Secret or ConfigMap that the job's variables name is missing, or lacks the key."""


class WorkerNoContact(JobFailedException):
    """The job's Pods run, but can't reach the operator."""


class PythonMismatch(JobFailedException):
    """Your Python and the image's can't read each other's pickles."""


class DeploymentNotFound(JobFailedException):
    """The deployments.shoal.dev that the job names does not exist."""


class EnvironmentFailed(JobFailedException):
    """The packages of the deployment could not be installed; the message is the installer's."""


class NoBucket(JobFailedException):
    """No bucket is configured, and this call needs one."""


class BucketNotFound(JobFailedException, StorageError):
    """The bucket does not exist."""


class AccessDenied(JobFailedException, StorageError):
    """The bucket's key is wrong, or may not do this."""


class StorageUnavailable(JobFailedException, StorageError):
    """The bucket's endpoint does not answer."""


class ConditionalWritesUnsupported(JobFailedException):
    """The bucket ignores If-None-Match, so results would not be safe in it."""


class SecretNotFound(JobFailedException):
    """A Secret, or a cloud's secret, does not exist, or may not be read."""


class InputsNotFound(JobFailedException):
    """What was uploaded for the job is not in the bucket any more."""


class InputsCorrupt(JobFailedException):
    """What was uploaded for the job, or a result, has changed since: its digest is wrong."""


class LedgerTampered(JobFailedException):
    """Somebody else wrote into the job's ledger; its results can't be trusted."""


class IdInUse(JobFailedException):
    """Another custom resource has the same id."""


class NoOperator(JobFailedException):
    """Nobody answers; the message says what to look at."""


class CrdsNotInstalled(JobFailedException):
    """The cluster does not know jobs.shoal.dev."""


class NamespaceNotFound(JobFailedException):
    """The namespace does not exist."""
