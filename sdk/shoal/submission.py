"""Uploads and creates what a call needs, or leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import IO, Any

from shoal import code_upload, discovery, made_secrets
from shoal.discovery import Place
from shoal.errors import ApiError, ApiUnreachable, ConfigurationError, ShoalException
from shoal.external_secrets import EXTERNAL_SECRETS, until_synced
from shoal.following import LABEL, PROCESS
from shoal.kube import JOBS, MAPJOBS, Client, Resource
from shoal.manifests import Prepared
from shoal.outages import insist
from shoal.resources import MapJob
from shoal.storage import Storage

SMALL = 256 * 1024
"""Inputs of at most so many bytes go up beside the creation of their resource."""


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
