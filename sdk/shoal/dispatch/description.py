"""What a worker is told of a job before it begins with it."""

from __future__ import annotations

from typing import Any

from shoal.dispatch.model import CodePartRef, CodeRef, Inputs, JobSpec, JobStore


def describe(spec: JobSpec, store: JobStore, *, for_offer: bool = False) -> dict[str, Any]:
    """Return the job's description as a worker gets it, its URLs fresh.

    One that goes along with an offer has no URLs for code of several parts: most workers have it.
    """
    about: dict[str, Any] = {
        "id": spec.id,
        "name": spec.name,
        "kind": spec.kind,
        "results": "json" if spec.json_results else "pickle",
    }
    if spec.timeout is not None:
        about["timeout"] = spec.timeout
    if spec.inputs is not None:
        about["inputs"] = {
            **_object(spec.inputs, store),
            "items": store.url_to_get(f"{spec.prefix}/inputs/items"),
        }
    if spec.inline is not None:
        about["inline"] = spec.inline
    if spec.code is not None:
        about["code"] = {
            "parts": _parts(spec.code, store, urls=not for_offer),
            "sysPaths": list(spec.code.sys_paths),
            "workingDirectory": spec.code.working_directory,
        }
    return about


def _parts(code: CodeRef, store: JobStore, *, urls: bool) -> list[dict[str, Any]]:
    if urls or len(code.parts) == 1:
        return [_object(part, store) for part in code.parts]
    return [{"sha256": part.sha256, "size": part.size} for part in code.parts]


def _object(one: Inputs | CodePartRef, store: JobStore) -> dict[str, Any]:
    """Return where an object is to be read, and what it must be."""
    return {"url": store.url_to_get(one.key), "sha256": one.sha256, "size": one.size}
