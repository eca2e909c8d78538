"""From a call to a custom resource: pack, upload, create; or leave nothing behind."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from shoal import discovery, mirror, packing
from shoal.deployment import Deployment
from shoal.discovery import Place
from shoal.errors import ApiError, ApiUnreachable, ConfigurationError, ShoalException
from shoal.following import LABEL, PROCESS
from shoal.interpreters import KubernetesSecret, PreinstalledInterpreter
from shoal.kube import JOBS, MAPJOBS, Client, Resource
from shoal.machinery import Call
from shoal.outages import insist
from shoal.resources import Job, MapJob
from shoal.storage import Storage

if TYPE_CHECKING:
    from shoal.packages import Packages

KINDS: dict[str, Resource] = {"function": JOBS, "command": JOBS, "map": MAPJOBS}


SMALL = 256 * 1024
"""Inputs of at most so many bytes go up beside the creation of their resource."""


@dataclass(frozen=True)
class Prepared:
    """A resource that is ready to be created, and what must be uploaded before."""

    model: Job | MapJob
    id: str
    inputs: packing.PackedInputs | None
    deployment: Deployment

    @property
    def needs_bucket(self) -> bool:
        """Tell whether anything travels through a bucket on the way there."""
        return self.inputs is not None or self.deployment.code is not None


def manifest(call: Call, place: Place | None = None) -> Job | MapJob:
    """Return the resource that the call would create; nothing is uploaded or created."""
    prepared = prepare(call, place)
    if prepared.inputs and prepared.inputs.items:
        prepared.inputs.items.close()
    return prepared.model


def prepare(call: Call, place: Place | None) -> Prepared:
    """Pack the call and make its resource; raises Unpicklable, InvalidResource."""
    _check_version(call)
    inputs = _pack(call)
    run_id = secrets.token_hex(16)
    spec: dict[str, Any] = {"id": run_id, **_what(call, inputs)}
    if where := _where(call.deployment, call.packages):
        spec["deployment"] = where
    if call.resources is not None:
        names = ("cpu", "memory", "ephemeralStorage")
        amounts = zip(names, call.resources.requests(), strict=True)
        if wanted := {name: amount for name, amount in amounts if amount}:
            spec["resources"] = wanted
    if place and place.field:
        spec["storage"] = place.field.to_dict()
    if call.kind == "map":
        spec["parallelism"] = call.parallelism
    if call.max_attempts != 1:
        spec["maxAttempts"] = call.max_attempts
    if call.more_memory:
        spec["retryWithMoreMemory"] = True
    if call.task_timeout is not None:
        spec["taskTimeoutSeconds"] = call.task_timeout
    if call.speculation:
        spec["speculation"] = True
    if call.own_workers:
        spec["isolation"] = "job"
    model = MapJob if call.kind == "map" else Job
    metadata = {"name": call.name or _name(call, run_id)}
    if place:
        metadata["namespace"] = place.namespace
    return Prepared(
        model.from_dict(
            {
                "apiVersion": KINDS[call.kind].api_version,
                "kind": KINDS[call.kind].kind,
                "metadata": metadata,
                "spec": spec,
            }
        ),
        run_id,
        inputs,
        call.deployment,
    )


async def submit(
    api: Client, place: Place, prepared: Prepared, ready: Coroutine[Any, Any, None]
) -> dict[str, Any]:
    """Upload and create; return the object as the API server made it.

    `ready` is awaited beside the upload, and done before the resource is created. Small inputs go
    up while the resource is created: a worker that comes before them waits for them.

    What fails in between deletes what was made for this call (code stays: it is shared by its
    digest, and the operator sweeps it when nobody names it).
    """
    kind = MAPJOBS if isinstance(prepared.model, MapJob) else JOBS
    if not prepared.needs_bucket:
        await ready
        return await _create(api, place, kind, prepared)
    try:
        storage = await place.bucket(api, kind.full_name(prepared.model.name))
    except ShoalException:
        ready.close()
        raise
    prefix = f"{place.prefix}/jobs/{prepared.id}"
    uploading = asyncio.ensure_future(
        asyncio.to_thread(_upload, storage, place.prefix, prefix, prepared)
    )
    creating: asyncio.Future[dict[str, Any]] | None = None
    try:
        if _is_small(prepared, storage, place.prefix):
            await ready
        else:
            await asyncio.gather(asyncio.shield(uploading), ready)
        creating = asyncio.ensure_future(_create(api, place, kind, prepared))
        made = await asyncio.shield(creating)
        await asyncio.shield(uploading)
        return made
    except BaseException:
        if creating is not None:
            await asyncio.shield(_undo(api, place, kind, creating))
        await asyncio.shield(_clean(uploading, lambda: remove_inputs(storage, prefix)))
        raise


def _is_small(prepared: Prepared, storage: Storage, shared: str) -> bool:
    """Tell whether the upload takes about as long as creating the resource."""
    code = prepared.deployment.code
    if code is not None and not mirror.is_known(code, storage, shared):
        return False
    inputs = prepared.inputs
    return inputs is None or (inputs.items is None and len(inputs.job) <= SMALL)


async def _undo(
    api: Client, place: Place, kind: Resource, creating: asyncio.Future[dict[str, Any]]
) -> None:
    """Delete the resource if it was created; the first error is what counts."""
    with suppress(ShoalException):
        made = (await creating)["metadata"]
        await api.delete(kind, made["name"], place.namespace, uid=made["uid"])


def remove_inputs(storage: Storage, prefix: str) -> None:
    """Delete what `submit` uploaded for one call."""
    storage.delete(f"{prefix}/inputs/job", f"{prefix}/inputs/items")


async def _clean(uploading: asyncio.Future[None], remove: Callable[[], None]) -> None:
    """Wait until nothing is written any more, then remove it; the first error is what counts."""
    with suppress(Exception):
        await uploading
    with suppress(ShoalException):
        await asyncio.to_thread(remove)


def _pack(call: Call) -> packing.PackedInputs | None:
    if call.kind == "command":
        return None if call.context is None else packing.pack_command(call.argv, call.context)
    if call.function is None:
        raise ConfigurationError("a call without a function")
    if call.kind == "map":
        return packing.pack_map(call.function, call.items)
    return packing.pack_function(call.function, call.args, call.kwargs)


def _check_version(call: Call) -> None:
    """Refuse a callable for a Python that can't read this one's pickles."""
    ours = packing.python_version()
    said = call.packages.python if call.packages else ""
    theirs = ".".join(said.split(".")[:2]) or ours
    if callable(call.function) and theirs != ours:
        is_conda = call.packages is not None and call.packages.conda is not None
        what = "the conda environment's python" if is_conda else "python_version"
        raise ConfigurationError(
            f"{what} is {theirs}, this is Python {ours}: a function that is handed over as an "
            f"object can't be read there. Say {ours!r}, or name the function as 'module.function'"
        )


def _what(call: Call, inputs: packing.PackedInputs | None) -> dict[str, Any]:
    payload = inputs and {
        "sha256": inputs.sha256,
        "size": len(inputs.job),
        "python": inputs.python,
    }
    if call.kind == "command":
        command: dict[str, Any] = {"command": list(call.argv)}
        return command | ({"contextVariables": payload} if payload else {})
    what: dict[str, Any] = {"function": {"payload": payload}}
    if call.kind == "map":
        what["items"] = {"packed": {"count": call.total}}
    return what


def _where(deployment: Deployment, packages: Packages | None) -> dict[str, Any]:
    """Return the fields of the resource's `deployment`."""
    where: dict[str, Any] = {}
    if image := deployment.image:
        where["image"] = image.image_name
        if image.always_use_local:
            where["imagePullPolicy"] = "Never"
        if isinstance(secret := image.username_password_secret, KubernetesSecret):
            where["imagePullSecrets"] = [{"name": secret.secret_name}]
    else:
        names_one = packages if packages and not packages.conda else None  # conda brings its own
        where["python"] = names_one.python if names_one else packing.python_version()
    if isinstance(deployment.interpreter, PreinstalledInterpreter):
        where["interpreter"] = deployment.interpreter.path_to_interpreter
    if packages and (environment := packages.to_dict()):
        where["environment"] = environment
    if code := deployment.code:
        where["code"] = {
            "sha256": code.sha256,
            "size": code.size,
            "sysPaths": list(code.sys_paths),
            "workingDirectory": code.working_directory,
        }
    variables = dict(packages.conda.variables) if packages and packages.conda else {}
    variables.update(deployment.environment_variables or {})
    if variables:
        named = sorted(variables.items())
        where["environmentVariables"] = [{"name": n, "value": v} for n, v in named]
    return where


def _name(call: Call, run_id: str) -> str:
    """Return a name that says what it is, and is taken by nobody."""
    if call.kind == "command":
        said = call.argv[0].rpartition("/")[2]
    elif isinstance(call.function, str):
        said = call.function.rpartition(".")[2]
    else:
        said = getattr(call.function, "__name__", None) or type(call.function).__name__
    slug = re.sub("[^a-z0-9]+", "-", said.lower()).strip("-")[:40].strip("-")
    return f"{slug or call.kind}-{run_id[:8]}"


def _upload(storage: Storage, shared: str, prefix: str, prepared: Prepared) -> None:
    if code := prepared.deployment.code:
        insist(lambda: mirror.upload(code, storage, shared))
    if inputs := prepared.inputs:
        if inputs.items is not None:
            with inputs.items as items:
                insist(lambda: _upload_items(storage, prefix, items, inputs.items_size))
        insist(lambda: storage.put(f"{prefix}/inputs/job", inputs.job))


def _upload_items(storage: Storage, prefix: str, items: IO[bytes], size: int) -> None:
    items.seek(0)  # this may be a second attempt
    storage.put_stream(f"{prefix}/inputs/items", items, size)


async def _create(api: Client, place: Place, kind: Resource, prepared: Prepared) -> dict[str, Any]:
    name, body = prepared.model.name, prepared.model.to_dict()
    body["metadata"].setdefault("labels", {})[LABEL] = PROCESS
    try:
        return await api.create(kind, body, place.namespace)
    except ApiUnreachable:
        # the request may have arrived although its answer did not
        with suppress(ApiError):
            found = await api.get(kind, name, place.namespace)
            if found["spec"].get("id") == prepared.id:
                return found
        raise
    except ApiError as error:
        if error.status == 409 and error.reason == "AlreadyExists":
            raise ConfigurationError(
                f"{kind.full_name(name)} exists already in namespace {place.namespace}: choose "
                f"another name, follow it (shoal.attach({name!r})), or delete it "
                f"(`kubectl delete {kind.full_name(name)} -n {place.namespace}`)"
            ) from error
        raise await _explained(api, place, kind, name, error) from error


async def _explained(
    api: Client, place: Place, kind: Resource, name: str, error: ApiError
) -> ShoalException:
    where = f"{kind.full_name(name)} in namespace {place.namespace}"
    if error.status == 404:
        discovery.forget()
        return await discovery.explain(api, place.namespace, where)
    if error.status == 422:
        return ConfigurationError(f"The API server refuses {where}: {error.message}")
    if error.status == 403:
        return ApiError(
            403, error.reason, f"You may not create {where}: {error.message}", error.details
        )
    return error
