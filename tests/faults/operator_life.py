"""The operator's life: the program itself, with the settings of its chart in the environment."""

from __future__ import annotations

from typing import Any

# What a life would load at its beginning is loaded before the first.
import kopf  # noqa: F401
import kubernetes.aio.client
import kubernetes.aio.config  # noqa: F401
import minio  # noqa: F401

import shoal_operator.running  # noqa: F401
from shoal_operator.__main__ import main


def live(order: dict[str, Any]) -> int:
    """Run until a signal comes; return the exit code."""
    return main([])


def describe() -> str:
    """How this life stands: its tasks say it."""
    return "an operator"
