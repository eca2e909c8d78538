"""Interpreters that a Deployment can run on, and the Secrets that open them.

Container interpreters name an image, `PreinstalledInterpreter` a Python in the cluster's own one;
what a project's files name, or what `LocalPipInterpreter` and `LocalCondaInterpreter` find, is
installed once in the cluster.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shoal.errors import ConfigurationError

_PYTHON = re.compile(r"^3\.(9|[1-9][0-9])(\.[0-9]{1,3})?$")


SHOAL_INTERPRETER = MEADOWRUN_INTERPRETER = "python"
"""The Python that runs the worker, for `PreinstalledInterpreter`; any will do."""


class _Abstract:
    """A base whose direct subclasses are there to be derived from and to be checked against."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Abstract:
        if _Abstract in cls.__bases__:
            raise TypeError(f"{cls.__name__} is abstract: use one of its subclasses")
        return super().__new__(cls)


class Secret(_Abstract):
    """A credential that stands somewhere else, such as a registry's password."""


@dataclass(frozen=True)
class KubernetesSecret(Secret):
    """A Secret of the job's namespace; for images, of the type kubernetes.io/dockerconfigjson."""

    secret_name: str


@dataclass(frozen=True)
class AwsSecret(Secret):
    """A secret of AWS Secrets Manager, by name or ARN; read at submission, by this machine's login.

    For images its text is JSON with `username` and `password`.
    """

    secret_name: str


@dataclass(frozen=True)
class AzureSecret(Secret):
    """A secret of an Azure Key Vault; read at submission, by this machine's login.

    `vault_name` is a name or a URL; without one it is SHOAL_AZURE_VAULT's, else the chart's. For
    images the secret's text is JSON with `username` and `password`.
    """

    secret_name: str
    vault_name: str | None = None


class ContainerInterpreterBase(abc.ABC):
    """A container image in which `python` is the right interpreter."""

    repository_name: str
    username_password_secret: Secret | None
    always_use_local: bool

    @property
    @abc.abstractmethod
    def image_name(self) -> str:
        """Return the image as Kubernetes names it."""


@dataclass(frozen=True)
class ContainerInterpreter(ContainerInterpreterBase):
    """An image by tag, such as ContainerInterpreter("python", "3.11-slim").

    `always_use_local` never pulls: the image has to be on the nodes.
    """

    repository_name: str
    tag: str = "latest"
    username_password_secret: Secret | None = None
    always_use_local: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no image name."""
        _check_repository(self.repository_name)

    @property
    def image_name(self) -> str:
        """Return repository:tag."""
        return f"{self.repository_name}:{self.tag}"


@dataclass(frozen=True)
class ContainerAtDigestInterpreter(ContainerInterpreterBase):
    """An image by digest, such as ContainerAtDigestInterpreter("python", "sha256:97725c6...")."""

    repository_name: str
    digest: str
    username_password_secret: Secret | None = None
    always_use_local: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no image name."""
        _check_repository(self.repository_name)
        if not self.digest.startswith("sha256:"):
            raise ConfigurationError(f"digest must start with 'sha256:'; it is {self.digest!r}")

    @property
    def image_name(self) -> str:
        """Return repository@digest."""
        return f"{self.repository_name}@{self.digest}"


class LocalInterpreter(_Abstract):
    """An interpreter of this machine, to be built again where the job runs."""

    def __post_init__(self) -> None:
        """Refuse a version that no worker can have."""
        if getattr(self, "python_version", None) is not None:
            check_python_version(self.python_version)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class LocalCondaInterpreter(LocalInterpreter):
    """What is installed in a conda environment of this machine, at the versions that it has.

    Attributes:
        environment_name_or_path: such as "base", "work" or "/opt/conda/envs/work"; conda itself
            need not be there.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    environment_name_or_path: str
    additional_software: Sequence[str] | str | None = None


@dataclass(frozen=True)
class LocalPipInterpreter(LocalInterpreter):
    """What is installed beside an interpreter of this machine, at the versions that it has.

    `Local` runs that very interpreter.

    Attributes:
        path_to_interpreter: the Python program, such as ".venv/bin/python".
        python_version: "3.11" or "3.11.4"; None means the interpreter's own minor version.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    path_to_interpreter: str
    python_version: str | None = None
    additional_software: Sequence[str] | str | None = None


@dataclass(frozen=True)
class ActiveEnvironment(LocalInterpreter):
    """What is active where the job is submitted: the default of `Deployment.mirror_local`.

    The lock of a Poetry or uv project, else what is installed beside this Python, without what only
    Shoal needs. With SHOAL_MIRROR_ENVIRONMENT=false it is nothing.
    """


class InterpreterSpecFile(_Abstract):
    """A file that an environment can be built from."""

    python_version: str
    additional_software: Sequence[str] | str | None

    def __post_init__(self) -> None:
        """Refuse a version that no worker can have."""
        if hasattr(self, "python_version"):
            check_python_version(self.python_version)


@dataclass(frozen=True)
class CondaEnvironmentFile(InterpreterSpecFile):
    """An environment.yml, or an explicit list of packages; it brings its own Python.

    Attributes:
        path_to_file: the file.
        file_format: "env_export" (`conda env export`) or "list" (`conda list --explicit`); None
            means that the file's content tells.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    path_to_file: str
    file_format: Literal["env_export", "list"] | None = None
    additional_software: Sequence[str] | str | None = None

    def __post_init__(self) -> None:
        """Refuse a format that there is not."""
        if self.file_format not in (None, "env_export", "list"):
            raise ConfigurationError(
                f"file_format must be 'env_export' or 'list', not {self.file_format!r}"
            )


@dataclass(frozen=True)
class PipRequirementsFile(InterpreterSpecFile):
    """A requirements.txt on this machine.

    Attributes:
        path_to_requirements_file: the file; those that it includes (-r) count as part of it.
        python_version: "3.11" or "3.11.4"; the cluster must have an image for it.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    path_to_requirements_file: str
    python_version: str
    additional_software: Sequence[str] | str | None = None


@dataclass(frozen=True)
class PoetryProjectPath(InterpreterSpecFile):
    """A folder with pyproject.toml and the poetry.lock of Poetry 2.

    Attributes:
        path_to_project: the folder; "" is the current one.
        python_version: "3.11" or "3.11.4"; the cluster must have an image for it.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    path_to_project: str
    python_version: str
    additional_software: Sequence[str] | str | None = None


@dataclass(frozen=True)
class UvProjectPath(InterpreterSpecFile):
    """A folder with pyproject.toml and uv.lock, which the uv of this machine reads.

    Attributes:
        path_to_project: the folder; "" is the current one.
        python_version: "3.11" or "3.11.4"; the cluster must have an image for it.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    path_to_project: str
    python_version: str
    additional_software: Sequence[str] | str | None = None


@dataclass(frozen=True)
class ScriptRequirements(InterpreterSpecFile):
    """A script that names its dependencies itself, as PEP 723 says (`# /// script`).

    Attributes:
        path_to_script: the script; it is read, not run.
        python_version: "3.11" or "3.11.4"; the cluster must have an image for it.
        additional_software: Debian packages, such as "libgomp1"; unpacked without root.
    """

    path_to_script: str
    python_version: str
    additional_software: Sequence[str] | str | None = None


@dataclass(frozen=True)
class PreinstalledInterpreter:
    """A Python that is in the cluster's image already, such as "/opt/tools/bin/python".

    With `SHOAL_INTERPRETER`, the one that runs the worker. On `Local`, a Python of this machine.
    """

    path_to_interpreter: str

    def __post_init__(self) -> None:
        """Refuse what is no path."""
        path = self.path_to_interpreter
        if not isinstance(path, str) or not path or any(c.isspace() for c in path):
            raise ConfigurationError(f"path_to_interpreter can't be {path!r}: name a program")


if TYPE_CHECKING:
    AnyInterpreter = (
        LocalInterpreter | InterpreterSpecFile | ContainerInterpreterBase | PreinstalledInterpreter
    )


def check_python_version(version: object) -> None:
    """Refuse what is no version of Python that a worker can have."""
    if not isinstance(version, str) or not _PYTHON.match(version):
        raise ConfigurationError(
            f'python_version must be such as "3.11" or "3.11.4", 3.9 or newer; it is {version!r}'
        )


def _check_repository(name: str) -> None:
    if not name or any(character.isspace() for character in name):
        raise ConfigurationError(f"{name!r} can't be the name of an image")
