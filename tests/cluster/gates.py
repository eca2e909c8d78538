"""A gate that tasks wait at until a test opens it: what makes tests independent of time.

Tasks have no right in the cluster, but they can resolve names: a gate is a Service's name, which
resolves once the Service was made.
"""

from __future__ import annotations

from collections.abc import Callable

from namespaces import Place

from shoal.kube import SERVICES


class Gate:
    """One gate of a namespace; `wait` and `is_open` can be pickled into functions."""

    def __init__(self, place: Place, name: str = "gate") -> None:
        self._place, self._name = place, name
        self._host = f"{name}.{place.namespace}.svc.cluster.local"

    async def open(self) -> None:
        """Let all through, from now on."""
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self._name},
            "spec": {"ports": [{"port": 80}]},
        }
        await self._place.api.create(SERVICES, service, self._place.namespace)

    @property
    def is_open(self) -> Callable[[], bool]:
        """Whether it is, asked inside of a task."""
        host = self._host

        def is_open() -> bool:
            import socket

            try:
                socket.gethostbyname(host)
            except OSError:
                return False
            return True

        return is_open

    @property
    def wait(self) -> Callable[[], None]:
        """Wait for it, inside of a task."""
        is_open = self.is_open

        def wait() -> None:
            import time

            while not is_open():
                time.sleep(0.05)

        return wait
