"""What the parts of the running operator share: made once at start, then handed around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .buckets import Buckets
from .cache import Cache
from .discovery import Claims
from .events import Recorder
from .identity import Identity
from .pods import Worker
from .settings import Settings

if TYPE_CHECKING:
    from shoal.dispatch import Dispatcher
    from shoal.kube import Client

    from .lease import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The operator's surroundings."""

    settings: Settings
    api: Client
    cache: Cache
    claims: Claims
    dispatcher: Dispatcher
    buckets: Buckets
    identity: Identity
    recorder: Recorder
    worker: Worker
    lease: Lease
    up_since: float
    """When it began to listen for workers, in seconds since the epoch."""

    @property
    def epoch(self) -> int:
        """A number that no operator of this release before had."""
        return self.lease.epoch
