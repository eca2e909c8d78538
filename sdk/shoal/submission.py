"""From a call to a custom resource: pack, upload, create; or leave nothing behind."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from shoal import code_upload, discovery, made_secrets, packing
from shoal.credentials import Credentials
from shoal.deployment import Deployment, GitRepository
from shoal.discovery import Place
from shoal.errors import ApiError, ApiUnreachable, ConfigurationError, ShoalException
from shoal.external_secrets import EXTERNAL_SECRETS, until_synced
from shoal.following import LABEL, PROCESS
from shoal.interpreters import InterpreterSpecFile, LocalPipInterpreter, PreinstalledInterpreter
from shoal.kube import JOBS, MAPJOBS, Client, Resource
from shoal.machinery import Call
from shoal.made_secrets import MadeSecret
from shoal.outages import insist
from shoal.packages import Packages, debian_sources, packages_for, place_in_repository
from shoal.resources import Job, MapJob
from shoal.storage import Storage
from shoal.variables import source_field, variable_field

if TYPE_CHECKING:
    from shoal.interpreters import AnyInterpreter

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
    secrets: tuple[MadeSecret, ...] = ()

    @property
    def needs_bucket(self) -> bool:
        """Tell whether anything travels through a bucket on the way there."""
        return self.inputs is not None or self.deployment.code is not None


def manifest(call: Call, place: Place | None = None) -> Job | MapJob:
    """Return the resource that the call would create; nothing is uploaded or created.

    Secrets of clouds are read, since the resource names what would be made of them.
    """
    prepared = prepare(call, place)
    if prepared.inputs and prepared.inputs.items:
        prepared.inputs.items.close()
    return prepared.model


def prepare(call: Call, place: Place | None) -> Prepared:
    """Pack the call and make its resource; raises Unpicklable, InvalidResource, SecretNotFound."""
    packages = packages_for(call.deployment)
    theirs = _minor_version(packages)
    packing.check_reader(call.function, theirs, _where_it_stands(call.deployment))
    named = Credentials(place.azure_vault, place.secret_store) if place else Credentials()
    where = _where(call.deployment, packages, named)
    inputs = _pack(call, portable=theirs != packing.python_version())
    run_id = secrets.token_hex(16)
    spec: dict[str, Any] = {"id": run_id, **_what(call, inputs)}
    if where:
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
        named.made,
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
    if code is not None and not code_upload.is_known(code, storage, shared):
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


def _pack(call: Call, portable: bool) -> packing.PackedInputs | None:
    if call.kind == "command":
        return None if call.context is None else packing.pack_command(call.argv, call.context)
    if call.function is None:
        raise ConfigurationError("a call without a function")
    if call.kind == "map":
        return packing.pack_map(call.function, call.items, portable=portable)
    return packing.pack_function(call.function, call.args, call.kwargs, portable=portable)


def _minor_version(packages: Packages | None) -> str:
    """Return the version of Python that reads the call, as far as the client knows it."""
    if packages is None:
        return packing.python_version()
    return ".".join(packages.python.split(".")[:2])


def _where_it_stands(deployment: Deployment) -> str:
    """Return what has decided on the version of Python."""
    chosen = deployment.interpreter
    if isinstance(chosen, LocalPipInterpreter) and chosen.python_version is None:
        return chosen.path_to_interpreter
    return "python_version"


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


def _where(deployment: Deployment, packages: Packages | None, named: Credentials) -> dict[str, Any]:
    """Return the fields of the resource's `deployment`."""
    where: dict[str, Any] = {}
    if image := deployment.image:
        where["image"] = image.image_name
        if image.always_use_local:
            where["imagePullPolicy"] = "Never"
        if secret := image.username_password_secret:
            name = named.for_image(secret, image.repository_name)
            where["imagePullSecrets"] = [{"name": name}]
    else:
        where["python"] = packages.python if packages else packing.python_version()
    if isinstance(deployment.interpreter, PreinstalledInterpreter):
        where["interpreter"] = deployment.interpreter.path_to_interpreter
    if environment := _environment(deployment, packages, named):
        where["environment"] = environment
    if code := deployment.code:
        where["code"] = {
            "parts": [{"sha256": part.sha256, "size": part.size} for part in code.parts],
            "sysPaths": list(code.sys_paths),
            "workingDirectory": code.working_directory,
        }
    if deployment.environment_variables:
        variables = sorted(deployment.environment_variables.items())
        where["environmentVariables"] = [variable_field(n, v) for n, v in variables]
    if deployment.env_from:
        where["envFrom"] = [source_field(source) for source in deployment.env_from]
    return where


def _environment(
    deployment: Deployment, packages: Packages | None, named: Credentials
) -> dict[str, Any]:
    """Return the fields of the resource's `environment`."""
    found: dict[str, Any] = {}
    if packages:
        found["requirements"] = list(packages.requirements)
        found["software"] = list(packages.software)
    if deployment.git:
        found["git"] = _git(deployment.git, deployment.interpreter, named)
    if found.get("git") or found.get("software"):
        found["softwareSources"] = debian_sources()
    return {name: value for name, value in found.items() if value}


def _git(
    git: GitRepository, interpreter: AnyInterpreter | None, named: Credentials
) -> dict[str, Any]:
    """Return the fields of the resource's `environment.git`."""
    fields: dict[str, Any] = {
        "url": git.url,
        "branch": git.branch,
        "commit": git.commit,
        "path": git.path,
    }
    if isinstance(interpreter, InterpreterSpecFile):
        fields["packages"] = place_in_repository(interpreter)
        fields["editable"] = git.editable
    if git.secret is not None:
        fields["secretName"] = named.for_git(git.secret, ssh=not git.url.startswith("http"))
    return {name: value for name, value in fields.items() if value is not None}


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
        insist(lambda: code_upload.upload(code, storage, shared))
    if inputs := prepared.inputs:
        if inputs.items is not None:
            with inputs.items as items:
                insist(lambda: _upload_items(storage, prefix, items, inputs.items_size))
        insist(lambda: storage.put(f"{prefix}/inputs/job", inputs.job))


def _upload_items(storage: Storage, prefix: str, items: IO[bytes], size: int) -> None:
    items.seek(0)  # this may be a second attempt
    storage.put_stream(f"{prefix}/inputs/items", items, size)


async def _create(api: Client, place: Place, kind: Resource, prepared: Prepared) -> dict[str, Any]:
    """Create the resource, and before it the Secrets that it is to own."""
    if not prepared.secrets:
        return await _create_resource(api, place, kind, prepared)
    created = await made_secrets.create(api, place.namespace, prepared.secrets)
    made: dict[str, Any] | None = None
    try:
        for secret in prepared.secrets:
            if secret.resource is EXTERNAL_SECRETS:
                await until_synced(api, place.namespace, secret.name, secret.of)
        made = await _create_resource(api, place, kind, prepared)
        await made_secrets.own(api, place.namespace, prepared.secrets, made)
        return made
    except BaseException:
        await asyncio.shield(_take_back(api, place, kind, made, created))
        raise


async def _take_back(
    api: Client,
    place: Place,
    kind: Resource,
    made: dict[str, Any] | None,
    created: list[made_secrets.Created],
) -> None:
    if made is not None:
        with suppress(ShoalException):
            name, uid = made["metadata"]["name"], made["metadata"]["uid"]
            await api.delete(kind, name, place.namespace, uid=uid)
    await made_secrets.remove(api, place.namespace, created)


async def _create_resource(
    api: Client, place: Place, kind: Resource, prepared: Prepared
) -> dict[str, Any]:
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
