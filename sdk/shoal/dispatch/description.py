"""What a worker is told of a job before it begins with it."""

from __future__ import annotations

from typing import Any

from shoal.dispatch.model import JobSpec, JobStore


def describe(spec: JobSpec, store: JobStore) -> dict[str, Any]:
    """Return the job's description as a worker gets it, its URLs fresh."""
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
            "url": store.url_to_get(spec.inputs.key),
            "sha256": spec.inputs.sha256,
            "size": spec.inputs.size,
            "items": store.url_to_get(f"{spec.prefix}/inputs/items"),
        }
    if spec.inline is not None:
        about["inline"] = spec.inline
    if spec.code is not None:
        about["code"] = {
            "url": store.url_to_get(spec.code.key),
            "sha256": spec.code.sha256,
            "size": spec.code.size,
            "sysPaths": list(spec.code.sys_paths),
            "workingDirectory": spec.code.working_directory,
        }
    return about
