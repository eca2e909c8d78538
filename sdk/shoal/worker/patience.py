"""How long the dispatcher and the bucket are waited for by who can't go on without them."""

from __future__ import annotations

import time

#: How long they may be away, in seconds.
PATIENCE = 300.0
#: Waits between attempts, in seconds; the last one repeats.
RETRIES = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)


class Patience:
    """Waits between attempts, for `PATIENCE` seconds in all."""

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE
        self.failures = 0

    def pause(self, error: Exception) -> None:
        """Wait after a failure; raise it when the time is over."""
        if time.monotonic() > self._until:
            raise error
        if self.failures in (0, 10, 100):
            print(f"waits: {error}", flush=True)
        time.sleep(RETRIES[min(self.failures, len(RETRIES) - 1)])
        self.failures += 1
