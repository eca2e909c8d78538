"""Hands tasks to workers and keeps the ledger of their results.

The operator and the `Local` host use the same dispatcher. It is soft state: what it must not lose
stands in the ledger before anybody is told of it, so that it can be killed at any instant.

The way of a task: `tasks` knows which are left, `dispatcher` claims them for a worker's poll,
`run` takes the worker's report, `chain` makes it durable, and only then is the report answered.
"""

from shoal.dispatch.dispatcher import Dispatcher
from shoal.dispatch.model import (
    CodePartRef,
    CodeRef,
    Inputs,
    JobSpec,
    JobStore,
    JobView,
    NotAttachedYet,
    PoolSettings,
    PoolView,
    Unauthorized,
    WorkerIdentity,
)
from shoal.dispatch.routes import application

__all__ = [
    "CodePartRef",
    "CodeRef",
    "Dispatcher",
    "Inputs",
    "JobSpec",
    "JobStore",
    "JobView",
    "NotAttachedYet",
    "PoolSettings",
    "PoolView",
    "Unauthorized",
    "WorkerIdentity",
    "application",
]
