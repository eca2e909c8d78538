"""What the operator counts, for Prometheus."""

from __future__ import annotations

from .reconcile import Reconciler

Metrics = dict[str, tuple[str, str, float]]
"""Type, help and value by name."""


def metrics(reconciler: Reconciler | None) -> Metrics:
    """The numbers as they are now; without a reconciler those of an operator that stands by."""
    leads: Metrics = {
        "shoal_leader": (
            "gauge",
            "Whether this operator holds the Lease.",
            int(reconciler is not None),
        )
    }
    return leads if reconciler is None else leads | _of(reconciler)


def _of(reconciler: Reconciler) -> Metrics:
    context, runs = reconciler.context, reconciler.jobs.runs
    pods = context.cache.all_pods()
    connected = sum(
        len(context.dispatcher.pool(pool).connected)
        for pool in {f"{pod.namespace}/{pod.pool}" for pod in pods}
    )
    attached = sum(run.attached for run in runs.values())
    alive = sum(pod.alive for pod in pods)
    return {
        f"shoal_{name}": (kind, text, value)
        for name, kind, text, value in (
            ("jobs_active", "gauge", "Jobs and MapJobs that have not ended.", len(runs)),
            ("jobs_attached", "gauge", "Jobs in the dispatcher.", attached),
            (
                "jobs_finished_total",
                "counter",
                "Jobs that ended since the start.",
                reconciler.jobs.finished,
            ),
            ("workers", "gauge", "Worker Pods that live.", alive),
            ("workers_connected", "gauge", "Workers that are connected.", connected),
            (
                "pods_created_total",
                "counter",
                "Pods created since the start.",
                reconciler.pools.created,
            ),
            (
                "status_patches_total",
                "counter",
                "Status patches since the start.",
                reconciler.writer.patches,
            ),
            (
                "reconciles_total",
                "counter",
                "Reconciles since the start.",
                reconciler.queue.reconciled,
            ),
            (
                "reconcile_failures_total",
                "counter",
                "Reconciles that failed.",
                reconciler.queue.failed,
            ),
            ("queue_depth", "gauge", "Parents being worked on.", reconciler.queue.depth),
        )
    }
