"""One operator at a time: a Lease that is taken before anything else and kept while it runs.

A Lease of somebody else is waited for until it was not renewed for its whole duration on *our*
clock (clocks are not compared), or until the Pod that holds it is known to be gone. Each taking
raises `leaseTransitions`, which is this operator's epoch: a number that no operator before it had,
and part of the names of the Pods that it makes.

The Lease keeps two operators apart almost always; the ledger's create-only entries do so always.
So an operator that cannot reach the API server goes on with what needs none, the tasks of its jobs,
and leaves only once it knows that somebody else has the Lease, or that it may not renew it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from shoal.errors import ApiError
from shoal.kube import LEASES, PODS, Client

from . import names
from .settings import Settings

logger = logging.getLogger(__name__)

DURATION = 15
"""Seconds after which a Lease that is not renewed is free."""
RENEW_EVERY = 4.0
LOST_AFTER = 11.0
"""Without a renewal for so long it may be another's, and refused renewals end us."""
POLL_EVERY = 1.0


class LeaseLost(RuntimeError):
    """Somebody else has the Lease, or we may not renew it."""


class Lease:
    """The Lease of this release; `pod` is the name of our own Pod, or of this machine."""

    def __init__(self, api: Client, settings: Settings, pod: str) -> None:
        self._api = api
        self._settings = settings
        self._pod = pod
        self._identity = f"{pod}_{secrets.token_hex(4)}"
        self._renewed = 0.0
        self.epoch = 0

    @property
    def held(self) -> bool:
        """Whether it is ours for certain at this moment."""
        return time.monotonic() - self._renewed < LOST_AFTER

    async def take(self) -> None:
        """Wait until the Lease is ours, and for the API server."""
        seen: tuple[Any, ...] = ()
        since = time.monotonic()
        told = ""
        while True:
            try:
                lease = await self._read()
                spec = (lease or {}).get("spec") or {}
                holder = spec.get("holderIdentity") or ""
                mark = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
                if mark != seen:
                    seen, since = mark, time.monotonic()
                over = float(spec.get("leaseDurationSeconds") or DURATION)
                free = not holder or time.monotonic() - since > over or await self._is_gone(holder)
                if free and await self._write(lease):
                    logger.info("took %s (epoch %d)", self._settings.lease_name, self.epoch)
                    return
                waits_for = f"{holder or 'somebody'}, who holds the Lease"
            except ApiError as error:
                if not error.may_heal:
                    raise
                waits_for = f"the API server: {error}"
            if waits_for != told:
                told = waits_for
                logger.info("waiting for %s", waits_for)
            await asyncio.sleep(POLL_EVERY)

    async def keep(self) -> None:
        """Renew for ever; raise LeaseLost when somebody else has it, or renewing is refused."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            away = True
            try:
                async with asyncio.timeout(LOST_AFTER - RENEW_EVERY):
                    lease = await self._read()
                    holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
                    if holder != self._identity:
                        raise LeaseLost(f"{holder or 'nobody'} holds the Lease now")
                    await self._write(lease, renew=True)
            except (ApiError, TimeoutError) as error:
                away = isinstance(error, TimeoutError) or error.may_heal
                logger.warning("the Lease could not be renewed: %s", error or "no answer in time")
            if not (self.held or away):
                raise LeaseLost(f"the Lease was not renewed for {LOST_AFTER:g} s")

    async def release(self) -> None:
        """Give the Lease back, so that the next operator need not wait."""
        try:
            async with asyncio.timeout(3.0):
                lease = await self._read()
                if lease and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    lease["spec"]["holderIdentity"] = ""
                    await self._api.replace(
                        LEASES, self._settings.lease_name, lease, self._settings.namespace
                    )
        except (ApiError, TimeoutError) as error:
            logger.warning("the Lease could not be released: %s", error)
        self._renewed = 0.0

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._api.get(LEASES, self._settings.lease_name, self._settings.namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _is_gone(self, holder: str) -> bool:
        """Whether the holder's Pod is gone, or is our own Pod's container before this one."""
        pod = holder.partition("_")[0]
        if pod == self._pod:
            return True
        try:
            await self._api.get(PODS, pod, self._settings.namespace)
        except ApiError as error:
            return error.status == 404
        return False

    async def _write(self, lease: dict[str, Any] | None, *, renew: bool = False) -> bool:
        """Take or renew; False when somebody was faster."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = dict((lease or {}).get("spec") or {})
        epoch = int(spec.get("leaseTransitions") or 0) + (0 if renew else 1)
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION,
            "leaseTransitions": epoch,
            "renewTime": now,
        }
        if not renew:
            spec["acquireTime"] = now
        started = time.monotonic()
        name, namespace = self._settings.lease_name, self._settings.namespace
        try:
            if lease is None:
                meta = {"name": name, "labels": names.ours(self._settings.instance)}
                body = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": meta,
                    "spec": spec,
                }
                await self._api.create(LEASES, body, namespace)
            else:
                await self._api.replace(LEASES, name, {**lease, "spec": spec}, namespace)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        self._renewed, self.epoch = started, epoch
        return True
