"""Worker Pods as the API server gets them. Pure: everything it needs comes as arguments.

Every Pod fits the `restricted` Pod security standard: a plain image runs as root and would be
refused, so a numeric user is set, and HOME, TMPDIR and the working directory lie in an emptyDir
that this user may write. No Pod has the API server's token or a credential of the bucket; a
projected token with our own audience says to the dispatcher who the worker is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import names
from .pools import Pool, Template
from .settings import Settings
from .variables import KeyRef, Variable

USER = 65532
SCRATCH = "/shoal"
TOKEN_FOLDER = "/var/run/secrets/shoal.dev"
TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What every worker needs to find and trust the dispatcher."""

    dispatcher: str
    """URL with the Service's address, e.g. https://10.0.0.1:8443."""
    authority: str
    """The certificate authority, PEM."""
    bundle_sha256: str
    bootstrap: str
    """Python source that fetches the worker and starts it."""


def worker_pod(
    pool: Pool, name: str, *, mac: str, worker: Worker, settings: Settings
) -> dict[str, Any]:
    """A Pod of `pool` that runs the worker."""
    environment = [
        *_variables(pool.template.variables),
        _variable("SHOAL_DISPATCHER", worker.dispatcher),
        _variable("SHOAL_SERVER_NAME", settings.server_name),
        _variable("SHOAL_CA", worker.authority),
        _variable("SHOAL_WORKER_SHA256", worker.bundle_sha256),
        _variable("SHOAL_TOKEN_FILE", f"{TOKEN_FOLDER}/token"),
    ]
    if pool.template.environment:
        environment.append(_variable("SHOAL_ENVIRONMENT", pool.template.environment))
    command = [pool.template.interpreter, "-c", worker.bootstrap]
    pod = _pod(pool, name, command, environment, settings)
    pod["metadata"]["annotations"][names.MAC] = mac
    spec = pod["spec"]
    spec["containers"][0]["volumeMounts"].append(
        {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True}
    )
    token = {"audience": settings.audience, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    spec["volumes"].append(
        {
            "name": "token",
            "projected": {
                "defaultMode": 0o444,
                "sources": [{"serviceAccountToken": token}],
            },
        }
    )
    return pod


def direct_pod(
    pool: Pool, name: str, argv: Sequence[str], *, seconds: int | None, settings: Settings
) -> dict[str, Any]:
    """A Pod that runs a command itself: no worker, no bucket; its exit code is the result.

    The kubelet ends it after `seconds`, those in which it gets its image included.
    """
    pod = _pod(pool, name, list(argv), _variables(pool.template.variables), settings)
    if seconds:
        pod["spec"]["activeDeadlineSeconds"] = seconds
    return pod


def _pod(
    pool: Pool,
    name: str,
    command: list[str],
    environment: list[dict[str, Any]],
    settings: Settings,
) -> dict[str, Any]:
    made = pool.template
    owned_by = names.DEPLOYMENT_LABEL if pool.owner_kind == names.DEPLOYMENT else names.JOB_LABEL
    container: dict[str, Any] = {
        "name": names.WORKER_CONTAINER,
        "image": made.image,
        "command": [_literal(word) for word in command],
        "workingDir": SCRATCH,
        "env": [
            *environment,
            _variable("SHOAL_SCRATCH", SCRATCH),
            _variable("HOME", SCRATCH),
            _variable("TMPDIR", SCRATCH),
            _variable("USER", "shoal"),
            _field("SHOAL_POD_UID", "metadata.uid"),
            _field("SHOAL_POD_NAME", "metadata.name"),
            _field("SHOAL_NODE_NAME", "spec.nodeName"),
        ],
        "resources": _resources(made),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH}],
    }
    if made.variable_sources:
        container["envFrom"] = [source.rendered() for source in made.variable_sources]
    if made.pull_policy:
        container["imagePullPolicy"] = made.pull_policy
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    if made.service_account:
        spec["serviceAccountName"] = made.service_account
    if made.pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in made.pull_secrets]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": pool.namespace,
            "labels": {
                **names.ours(settings.instance),
                owned_by: pool.owner_name[:63].rstrip("-."),
                names.POOL: pool.hash,
            },
            "annotations": {},
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": pool.owner_kind,
                    "name": pool.owner_name,
                    "uid": pool.owner_uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
    }


def pod_name(pool: Pool, epoch: int, number: int) -> str:
    """A name that was never used before and never will be: owner, pool, epoch, number.

    The epoch is the Lease's count of takeovers, so an operator that starts anew does not repeat the
    numbers of the one before.
    """
    stem = pool.owner_name[:200].rstrip("-.")
    return f"{stem}-{pool.hash[:5]}-{epoch}-{number}"


def mac_message(namespace: str, name: str, owner_uid: str, pool_hash: str) -> bytes:
    """What the annotation shoal.dev/mac vouches for."""
    return "\0".join(["pod", namespace, name, owner_uid, pool_hash]).encode()


def _resources(made: Template) -> dict[str, Any]:
    wanted = {"cpu": made.cpu, "memory": made.memory, "ephemeral-storage": made.ephemeral_storage}
    requests = {key: value for key, value in wanted.items() if value}
    limits = {key: value for key, value in {**wanted, "cpu": made.cpu_limit}.items() if value}
    return {"requests": requests, "limits": limits}


def _variables(variables: Sequence[Variable]) -> list[dict[str, Any]]:
    return [_variable(name, value) for name, value in variables]


def _variable(name: str, value: str | KeyRef) -> dict[str, Any]:
    if isinstance(value, KeyRef):
        return {"name": name, "valueFrom": value.rendered()}
    return {"name": name, "value": _literal(value)}


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _literal(text: str) -> str:
    """Keep the kubelet from expanding `$(NAME)`: a user's text arrives as it was written."""
    return text.replace("$", "$$")
