"""A Deployment's reconcile: the pools under it, their Pods, its status.

A Deployment has one pool of its own size and one more for each other size that jobs ask for. Those
that the operator made for inline specs go away when nobody has used them for a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shoal.errors import ApiError
from shoal.kube import DEPLOYMENTS

from . import names
from .cache import CustomResource
from .context import Context
from .environments import EnvironmentKeeper, State
from .observe import PodFact
from .plan import earliest
from .poolkeeping import PoolKeeper
from .pools import Pool
from .resolve import deployment_pool
from .runs import Run
from .status import deployment_status
from .statuswriting import StatusWriter

logger = logging.getLogger(__name__)

UNUSED_SECONDS = 3600.0
"""An operator-made Deployment without Pods and jobs is deleted after so long."""


class DeploymentKeeper:
    """Reconciles Deployments."""

    def __init__(
        self,
        context: Context,
        pools: PoolKeeper,
        writer: StatusWriter,
        environments: EnvironmentKeeper,
        *,
        pools_in_use: Callable[[str], Iterable[Pool]],
        runs_of: Callable[[CustomResource], Sequence[Run]],
        on_environment: Callable[[str, str], None],
    ) -> None:
        """`pools_in_use(uid)` gives the pools that jobs use of a Deployment, `runs_of` these jobs;
        `on_environment(namespace, name)` says that its environment stands differently."""
        self._context = context
        self._pools = pools
        self._writer = writer
        self._environments = environments
        self._pools_in_use = pools_in_use
        self._runs_of = runs_of
        self._on_environment = on_environment
        self._used: dict[str, float] = {}
        self._known: dict[str, dict[str, Pool]] = {}

    async def reconcile(self, uid: str) -> float:
        """Bring one Deployment forward; return when to look again."""
        deployment = self._context.cache.get(uid)
        if deployment is None or deployment.deleting:
            self._used.pop(uid, None)
            self._known.pop(uid, None)
            self._writer.forget(uid)
            self._pools.forget(uid)
            return 0.0
        environment = await self._environments.keep(deployment)
        own = deployment_pool(deployment, self._context.settings)
        if environment is not None and environment.phase != "Ready":
            there = self._context.cache.pods(own.namespace, own.hash)
            own = replace(own, min_workers=min(own.min_workers, sum(pod.alive for pod in there)))
        used = list(self._pools_in_use(uid))
        pods = self._context.cache.pods_of(uid)
        pools = {own.hash: own}
        for pool in [*used, *self._left(own, pods)]:
            known = pools.setdefault(pool.hash, pool)
            if known is not own and pool.idle_seconds > known.idle_seconds:
                pools[pool.hash] = pool
        self._known[uid] = pools
        wake = 0.0
        for pool in pools.values():
            wake = earliest(wake, await self._pools.keep(pool))
        pods = self._context.cache.pods_of(uid)
        await self._pools.delete_ended([pod for pod in pods if pod.pool not in pools])
        in_use = used or any(pod.alive for pod in pods) or own.min_workers
        if in_use or self._runs_of(deployment):
            self._used[uid] = time.time()
        elif deployment.labels.get(names.AUTO) == "true":
            idle_until = self._used.setdefault(uid, time.time()) + UNUSED_SECONDS
            if time.time() >= idle_until:
                await self._delete(deployment)
                return 0.0
            wake = earliest(wake, idle_until)
        due = await self._tell(deployment, list(pools.values()), environment)
        return earliest(wake, due, environment.retry_at if environment is not None else 0.0)

    def _left(self, own: Pool, pods: Iterable[PodFact]) -> Iterable[Pool]:
        """The pools of Pods that no job needs any more, as they were when one did.

        Of one that an operator before this one had, only the hash is known, which is enough to let
        its Pods go; but a job may not have come up yet that needs them.
        """
        known = self._known.get(own.owner_uid, {})
        settled = time.time() >= self._context.up_since + self._context.settings.contact_seconds
        for pool_hash in {pod.pool for pod in pods if pod.alive}:
            if pool_hash in known:
                yield known[pool_hash]
            elif settled:
                yield replace(own, hash=pool_hash, min_workers=0)

    async def _tell(
        self, deployment: CustomResource, pools: list[Pool], environment: State | None
    ) -> float:
        views = [self._pools.view(pool) for pool in pools]
        troubles = [self._pools.trouble(pool) for pool in pools]
        pods = self._context.cache.pods_of(deployment.uid)
        status = deployment_status(
            deployment,
            pool_hash=pools[0].hash,
            instance=self._context.settings.instance,
            replicas=sum(pod.alive for pod in pods),
            ready=sum(len(view.connected) for view in views),
            idle=sum(view.idle for view in views),
            wanted=sum(
                min(max(pool.min_workers, view.wanted), pool.max_workers)
                for pool, view in zip(pools, views, strict=True)
            ),
            trouble=next((trouble for trouble in troubles if trouble is not None), None),
            environment=environment.status() if environment is not None else None,
            now=time.time(),
        )
        before = deployment.status.get("environment")
        wake = await self._writer.write(deployment, status)
        if before != status.get("environment"):
            self._on_environment(deployment.namespace, deployment.name)
        return wake

    async def _delete(self, deployment: CustomResource) -> None:
        logger.info("%s is not used any more: deleted", deployment.full_name)
        await self._context.api.delete(
            DEPLOYMENTS, deployment.name, deployment.namespace, uid=deployment.uid
        )


async def make_deployment(
    context: Context, namespace: str, name: str, spec: Mapping[str, Any]
) -> None:
    """Create an operator-made Deployment, and show it in the cache without waiting for the
    watch."""
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.DEPLOYMENT,
        "metadata": {
            "name": name,
            "labels": {**names.ours(context.settings.instance), names.AUTO: "true"},
        },
        "spec": dict(spec),
    }
    try:
        made = await context.api.create(DEPLOYMENTS, body, namespace)
    except ApiError as error:
        if error.status != 409:
            raise
        made = await context.api.get(DEPLOYMENTS, name, namespace)
        if made["metadata"].get("deletionTimestamp"):
            raise
    context.cache.put(CustomResource.of(names.DEPLOYMENT, made))
