"""Pools: workers that are alike, and may therefore run each other's jobs.

A pool is a Deployment's content plus the size that a job asks for, hashed. The hash stands in each
Pod's label, in the operator-made Deployment's name, and in what a worker's token is checked
against.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from .quantities import times
from .settings import Settings
from .variables import Variable, WholeRef, sources_of, variables_of

EDITION = 1
"""Raised when the builder makes something else of the same environment."""
OF_BUILDS = (
    "environment",
    "storage",
    "interpreter",
    "imagePullPolicy",
    "imagePullSecrets",
    "serviceAccountName",
)
"""Fields of a Deployment that its builder shares."""
SIZED_IDLE_SECONDS = 30.0
"""How long an idle worker of a larger size is kept at the most: it takes much room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What a worker's Pod is made of; two equal templates are one pool."""

    image: str
    interpreter: str = "python"
    """The Python that runs the worker: a name on the image's PATH, or a path."""
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    cpu: str = ""
    cpu_limit: str = ""
    memory: str = ""
    ephemeral_storage: str = ""
    variables: tuple[Variable, ...] = ()
    variable_sources: tuple[WholeRef, ...] = ()
    code: tuple[str, ...] = ()
    """sha256, size, working directory and paths of the code zip, or empty."""
    environment: str = ""
    """Name of the Job that builds what the workers unpack and run under, or empty."""
    private_to: str = ""
    """The uid of the one job that may use it (isolation: job), or empty."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits; the value of the label shoal.dev/pool."""
        return digest(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool of workers with the object that owns its Pods."""

    namespace: str
    template: Template
    owner_kind: str
    owner_name: str
    owner_uid: str
    min_workers: int = 0
    max_workers: int = 1
    idle_seconds: float = 300.0
    hash: str = field(default="")

    def __post_init__(self) -> None:
        if not self.hash:
            # of two Deployments alike each has workers of its own, since their limits differ
            object.__setattr__(self, "hash", digest([self.template.hash, self.owner_name]))

    @property
    def key(self) -> str:
        """The pool's name towards the dispatcher: unique in the cluster."""
        return pool_key(self.namespace, self.hash)


@lru_cache(maxsize=4096)
def sized(pool: Pool, size: int) -> Pool:
    """The pool beside `pool` whose workers have `size` times the memory."""
    if size == 1:
        return pool
    return replace(
        pool,
        template=replace(pool.template, memory=times(pool.template.memory, size)),
        min_workers=0,
        idle_seconds=min(pool.idle_seconds, SIZED_IDLE_SECONDS),
        hash="",
    )


def pool_key(namespace: str, pool_hash: str) -> str:
    """`<namespace>/<hash>`."""
    return f"{namespace}/{pool_hash}"


def digest(value: Any) -> str:
    """Twelve hexadecimal digits of a JSON value's sha256."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def template(
    spec: Mapping[str, Any],
    settings: Settings,
    *,
    resources: Mapping[str, Any] | None = None,
    private_to: str = "",
) -> Template:
    """The template of a Deployment's `spec`, sized as a job's `resources` ask, where they do.

    Image: the named one, else the one for `python`, else the default.
    """
    sized = {**(spec.get("resources") or {}), **(resources or {})}
    code = spec.get("code") or {}
    secrets = [s["name"] for s in spec.get("imagePullSecrets") or ()]
    return Template(
        image=base_image(spec, settings),
        interpreter=spec.get("interpreter") or "python",
        pull_policy=spec.get("imagePullPolicy") or "",
        pull_secrets=tuple(dict.fromkeys([*secrets, *settings.image_pull_secrets])),
        service_account=spec.get("serviceAccountName") or "",
        cpu=str(sized.get("cpu") or settings.worker_cpu),
        cpu_limit=str(sized.get("cpu") or settings.worker_cpu_limit),
        memory=str(sized.get("memory") or settings.worker_memory),
        ephemeral_storage=str(sized.get("ephemeralStorage") or ""),
        variables=variables_of(spec),
        variable_sources=sources_of(spec),
        code=(
            code["sha256"],
            str(code.get("size") or 0),
            code.get("workingDirectory") or ".",
            *(code.get("sysPaths") or ["."]),
        )
        if code
        else (),
        environment=build_name(spec, settings),
        private_to=private_to,
    )


def build_name(spec: Mapping[str, Any], settings: Settings) -> str:
    """The name of the Job that builds a Deployment's environment; empty where it wants none.

    It is the hash of all that the builder's Pod is made of, so that equal names are equal builds.
    """
    if not spec.get("environment"):
        return ""
    parts = [EDITION, base_image(spec, settings), *(spec.get(field) for field in OF_BUILDS)]
    return f"environment-{digest(parts)}"


def base_image(spec: Mapping[str, Any], settings: Settings) -> str:
    """The image that a Deployment names, else the one for its Python."""
    return spec.get("image") or image_for(spec.get("python") or "", settings)


def image_for(python: str, settings: Settings) -> str:
    """The image for a Python minor version."""
    if not python:
        return settings.default_image
    return settings.python_images.get(python) or f"python:{python}-slim"
