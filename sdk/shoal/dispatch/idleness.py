"""Which idle workers go: those whose time is over, and those whose room is needed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from shoal.dispatch.model import PoolSettings
from shoal.dispatch.sessions import Session


def idle_for_too_long(
    sessions: Collection[Session],
    pools: Mapping[str, PoolSettings],
    busy: Collection[str],
    now: float,
) -> list[Session]:
    """Return the workers, those of the pools' minimum left out, whose idle time is over.

    `busy` are the uids of the Pods that have something in hand.
    """
    return _spared(
        sessions, pools, busy, lambda one, pool: now - one.idle_since >= pool.idle_seconds
    )


def to_make_room(
    sessions: Collection[Session],
    pools: Mapping[str, PoolSettings],
    busy: Collection[str],
    count: int,
    *,
    besides: str,
    namespace: str | None,
) -> list[Session]:
    """Return up to `count` idle workers of other pools than `besides`, the longest idle first.

    Those of the pools' minimum are left out; with `namespace` only those in it are looked at.
    """
    found = _spared(
        [one for one in sessions if namespace in (None, one.identity.namespace)],
        pools,
        busy,
        lambda one, _: one.identity.pool != besides,
    )
    return found[:count]


def _spared(
    sessions: Collection[Session],
    pools: Mapping[str, PoolSettings],
    busy: Collection[str],
    goes: Callable[[Session, PoolSettings], bool],
) -> list[Session]:
    """Return the idle workers that go, the longest idle first; each pool keeps its minimum."""
    totals = _totals(sessions)
    idle = [one for one in sessions if not one.leaving and one.identity.pod_uid not in busy]
    found: list[Session] = []
    for session in sorted(idle, key=lambda one: one.idle_since):
        pool = session.identity.pool
        settings = pools.get(pool, PoolSettings())
        if goes(session, settings) and totals[pool] > settings.min_workers:
            totals[pool] -= 1
            found.append(session)
    return found


def _totals(sessions: Iterable[Session]) -> dict[str, int]:
    """Return the number of workers of each pool that are not leaving."""
    totals: dict[str, int] = {}
    for session in sessions:
        if not session.leaving:
            totals[session.identity.pool] = totals.get(session.identity.pool, 0) + 1
    return totals
