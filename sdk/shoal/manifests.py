"""From a call to the custom resource that it creates, and what goes up before."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoal import packing
from shoal.credentials import Credentials
from shoal.deployment import Deployment, GitRepository
from shoal.discovery import Place
from shoal.errors import ConfigurationError
from shoal.git_branches import commit_of
from shoal.interpreters import (
    CondaEnvironmentFile,
    InterpreterSpecFile,
    LocalCondaInterpreter,
    LocalPipInterpreter,
    PreinstalledInterpreter,
)
from shoal.kube import JOBS, MAPJOBS, Resource
from shoal.machinery import Call
from shoal.made_secrets import MadeSecret
from shoal.packages import Packages, debian_sources, packages_for, place_in_repository
from shoal.resources import Job, MapJob
from shoal.variables import source_field, variable_field

if TYPE_CHECKING:
    from shoal.interpreters import AnyInterpreter

KINDS: dict[str, Resource] = {"function": JOBS, "command": JOBS, "map": MAPJOBS}


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
    said = packages.python if packages else ""
    return ".".join(said.split(".")[:2]) or packing.python_version()


def _where_it_stands(deployment: Deployment) -> str:
    """Return what has decided on the version of Python."""
    chosen = deployment.interpreter
    if isinstance(chosen, CondaEnvironmentFile | LocalCondaInterpreter):
        return "the conda environment's python"
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
        names_one = packages if packages and not packages.conda else None  # conda brings its own
        where["python"] = (names_one and names_one.python) or packing.python_version()
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
    own = packages.conda.variables if packages and packages.conda else {}
    if variables := {**own, **(deployment.environment_variables or {})}:
        where["environmentVariables"] = [variable_field(n, v) for n, v in sorted(variables.items())]
    if deployment.env_from:
        where["envFrom"] = [source_field(source) for source in deployment.env_from]
    return where


def _environment(
    deployment: Deployment, packages: Packages | None, named: Credentials
) -> dict[str, Any]:
    """Return the fields of the resource's `environment`."""
    found = packages.to_dict() if packages else {}
    if deployment.git:
        found["git"] = _git(deployment.git, deployment.interpreter, named)
        if sources := debian_sources():
            found["softwareSources"] = sources
    return found


def _git(
    git: GitRepository, interpreter: AnyInterpreter | None, named: Credentials
) -> dict[str, Any]:
    """Return the fields of the resource's `environment.git`."""
    seen = commit_of(git.url, git.branch) if git.branch else git.commit
    fields: dict[str, Any] = {
        "url": git.url,
        "branch": None if seen else git.branch,
        "commit": seen,
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
