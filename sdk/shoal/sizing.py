"""What a job, or each task of a map, needs: `Resources`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from shoal.errors import ConfigurationError, NotSupportedYet

GB = 2**30
"""Bytes in what Meadowrun and we call a GB."""

DEFAULT_EVICTION_RATE = 80.0


@dataclass(frozen=True, init=False)
class Resources:
    """CPU, memory and disk of one worker; what is None is left to the cluster's defaults.

    Attributes:
        logical_cpu: CPUs, such as 0.5 or 2.
        memory_gb: memory in GB of 2**30 bytes.
        max_eviction_rate: percent; 80 is the default, and other values come with a later version.
        gpus, gpu_memory: come with a later version.
        flags_required: also spelled `flags`; comes with a later version.
        ephemeral_storage: local disk in GB of 2**30 bytes; also spelled `ephemeral_storage_gb`.

    A field of a later version raises NotSupportedYet, so that nothing is silently ignored.
    """

    logical_cpu: float | None
    memory_gb: float | None
    max_eviction_rate: float
    gpus: float | None
    gpu_memory: float | None
    flags_required: Iterable[str] | str | None
    ephemeral_storage: float | None

    def __init__(
        self,
        logical_cpu: float | None = None,
        memory_gb: float | None = None,
        max_eviction_rate: float = DEFAULT_EVICTION_RATE,
        gpus: float | None = None,
        gpu_memory: float | None = None,
        flags_required: Iterable[str] | str | None = None,
        ephemeral_storage: float | None = None,
        *,
        flags: Iterable[str] | str | None = None,
        ephemeral_storage_gb: float | None = None,
    ) -> None:
        fields: dict[str, Any] = {
            "logical_cpu": logical_cpu,
            "memory_gb": memory_gb,
            "max_eviction_rate": max_eviction_rate,
            "gpus": gpus,
            "gpu_memory": gpu_memory,
            "flags_required": _one("flags_required", flags_required, "flags", flags),
            "ephemeral_storage": _one(
                "ephemeral_storage", ephemeral_storage, "ephemeral_storage_gb", ephemeral_storage_gb
            ),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check()

    @property
    def flags(self) -> Iterable[str] | str | None:
        """Return `flags_required`, by its other name."""
        return self.flags_required

    @property
    def ephemeral_storage_gb(self) -> float | None:
        """Return `ephemeral_storage`, by its other name."""
        return self.ephemeral_storage

    def requests(self) -> tuple[str | None, str | None, str | None]:
        """Return CPU, memory and disk as Kubernetes quantities; 0 and None are no request."""
        cpu = f"{math.ceil(self.logical_cpu * 1000)}m" if self.logical_cpu else None
        return cpu, _bytes(self.memory_gb), _bytes(self.ephemeral_storage)

    def _check(self) -> None:
        for name in ("logical_cpu", "memory_gb", "ephemeral_storage"):
            amount = getattr(self, name)
            if amount is not None and not _is_amount(amount):
                raise ConfigurationError(
                    f"Resources.{name} must be a number that is not negative, not {amount!r}"
                )
        for name in ("gpus", "gpu_memory", "flags_required"):
            if getattr(self, name):
                raise NotSupportedYet(f"Resources.{name} comes with a later version: leave it out")
        if self.max_eviction_rate != DEFAULT_EVICTION_RATE:
            raise NotSupportedYet(
                "Resources.max_eviction_rate other than 80 comes with a later version: leave it out"
            )


def _one(name: str, value: Any, other: str, other_value: Any) -> Any:
    if value is not None and other_value is not None:
        raise TypeError(f"Resources: {name} and {other} are the same; set one of them")
    return other_value if value is None else value


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and 0 <= float(value) < math.inf


def _bytes(amount: float | None) -> str | None:
    return str(math.ceil(amount * GB)) if amount else None
