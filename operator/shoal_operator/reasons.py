"""The closed list of reasons: one word in three places.

A condition's reason, an Event's reason, and the name of the SDK's exception are the same word.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason that a condition or an Event of ours may carry."""

    # what goes well
    RUNNING = "Running"
    COMPLETE = "Complete"
    WORKERS_READY = "WorkersReady"
    RESUMED = "Resumed"
    # what can be waited for
    PENDING = "Pending"
    SUSPENDED = "Suspended"
    ENVIRONMENT_BUILDING = "EnvironmentBuilding"
    ENVIRONMENT_READY = "EnvironmentReady"
    PARALLELISM_CAPPED = "ParallelismCapped"
    # what can be waited for until startDeadlineSeconds
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    # what ends a job
    TASK_FAILED = "TaskFailed"
    COMMAND_FAILED = "CommandFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    CANCELLED = "Cancelled"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError"
    WORKER_NO_CONTACT = "WorkerNoContact"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    BUCKET_NOT_FOUND = "BucketNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"
    ACCESS_DENIED = "AccessDenied"
    CONDITIONAL_WRITES_UNSUPPORTED = "ConditionalWritesUnsupported"
    NO_BUCKET = "NoBucket"
    INPUTS_NOT_FOUND = "InputsNotFound"
    INPUTS_CORRUPT = "InputsCorrupt"
    LEDGER_TAMPERED = "LedgerTampered"
    PYTHON_MISMATCH = "PythonMismatch"
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    ENVIRONMENT_FAILED = "EnvironmentFailed"
    POD_REJECTED = "PodRejected"
    DISRUPTIONS_EXCEEDED = "DisruptionsExceeded"
    ID_IN_USE = "IdInUse"

    @classmethod
    def of(cls, text: str, default: Reason) -> Reason:
        """The reason spelled `text`, or `default` for a word that is not ours."""
        try:
            return cls(text)
        except ValueError:
            return default


QUIET = frozenset(
    {
        Reason.COMPLETE,
        Reason.RUNNING,
        Reason.WORKERS_READY,
        Reason.ENVIRONMENT_READY,
        Reason.CANCELLED,
        Reason.SUSPENDED,
        Reason.RESUMED,
    }
)
