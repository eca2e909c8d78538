"""Runs kopf as a guest in our event loop.

`kopf.operator` takes every task that began after it for its own and waits for all of them when it
ends. Ours are in the same loop on purpose, since a hop to another thread would lie on every warm
call's way; so kopf's root tasks are started and ended here.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any, cast

import kopf

from .handlers import operator_settings, registry
from .health import Health
from .reconcile import Reconciler
from .settings import Settings

END_SECONDS = 3.0
"""How long kopf's tasks may take to end; what they still hold then is only events."""


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def watch(
    reconciler: Reconciler, health: Health, settings: Settings, stop: asyncio.Event
) -> None:
    """Feed the reconciler from the cluster until one of kopf's tasks ends, which none should."""
    tasks = await kopf.spawn_tasks(
        registry=registry(reconciler, health.beat, everywhere=not settings.watch_namespaces),
        settings=operator_settings(settings),
        clusterwide=not settings.watch_namespaces,
        namespaces=list(settings.watch_namespaces),
        standalone=True,
        identity=cast(Any, settings.instance),  # kopf would look up a user's name: Pods have none
    )
    stop_on_signals(stop)  # kopf took them
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=END_SECONDS)
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            raise RuntimeError(f"the watch broke: {task.get_name()}") from task.exception()
    raise RuntimeError(f"the watch ended: {', '.join(task.get_name() for task in done)}")
