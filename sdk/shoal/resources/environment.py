"""Where code runs: image, the user's own code, variables, pull secrets, requests.

`Surroundings` are the fields that a Deployment and the deployment inside a Job share.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from pydantic.config import JsonDict

from .model import Model
from .rules import Rule, only_one_of
from .validation import CONDA_CHANNEL, CONDA_URL
from .values import ImageName, ImagePath, ImagePython, ObjectName, Quantity, Sha256, Size


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path relative to the code's root, without ..")
    return path


RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    AfterValidator(_inside),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "x-kubernetes-validations": [
                {
                    "rule": "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
                    "message": "must be a path relative to the code's root, without ..",
                }
            ],
        }
    ),
]


class Resources(Model):
    """What one worker asks for. Requests and limits are the same, so that nobody is surprised."""

    cpu: Quantity | None = Field(
        default=None, description='CPUs, such as 2 or "500m". Write fractions as text.'
    )
    memory: Quantity | None = Field(default=None, description="Memory, such as 2Gi.")
    ephemeral_storage: Quantity | None = Field(
        default=None, description="Local disk for scratch files, such as 10Gi."
    )


class Code(Model):
    """The user's own modules and files: a zip in the bucket, which each worker unpacks."""

    sha256: Sha256 = Field(description="SHA-256 of the zip, in hexadecimal; also its name.")
    size: Size = Field(description="Size of the zip in bytes.")
    sys_paths: list[RelativePath] = Field(
        default=["."],
        max_length=200,
        description="Folders of the zip that are put on sys.path, in this order.",
    )
    working_directory: RelativePath = Field(
        default=".", description="Folder of the zip in which the code runs."
    )


Requirement = Annotated[
    str,
    StringConstraints(pattern=r"^[^\n\r]*\S[^\n\r]*$", max_length=32768),
]


DebianPackage = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$", max_length=256),
]


CondaChannel = Annotated[
    str,
    StringConstraints(pattern=CONDA_CHANNEL, max_length=1024),
]


CondaPackage = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][^\n\r]*$", max_length=1024),
]


CondaUrl = Annotated[str, StringConstraints(pattern=CONDA_URL, max_length=2048)]


class Conda(Model):
    """Conda packages, Python among them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        only_one_of("packages", "explicit"),
        Rule(
            "has(self.channels) == has(self.packages)",
            "packages come from channels: set both, or neither beside explicit",
            holds=lambda c: (c.channels is None) == (c.packages is None),
        ),
    )
    channels: list[CondaChannel] | None = Field(
        default=None,
        min_length=1,
        max_length=50,
        description="Where packages come from, the first before the others: URLs, or names such as "
        "conda-forge.",
    )
    packages: list[CondaPackage] | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="Match specs, such as python=3.12 or numpy=2.1.*; what they need is added.",
    )
    explicit: list[CondaUrl] | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="URLs of packages, as `conda list --explicit` prints them, each with #MD5 or "
        "#sha256:SHA256 or none; nothing is added.",
    )


class Environment(Model):
    """Packages that a builder Pod installs once, and each worker unpacks."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.requirements) || has(self.conda) || has(self.software)",
            "names nothing to install: set requirements, conda or software",
            holds=lambda e: any(x is not None for x in (e.requirements, e.conda, e.software)),
        ),
        Rule(
            "!has(self.softwareSources) || has(self.software)",
            "softwareSources go with software: remove them",
            holds=lambda e: e.software_sources is None or e.software is not None,
        ),
    )
    requirements: list[Requirement] | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="Lines of a requirements.txt, such as numpy==2.3.1 or --extra-index-url URL. "
        "Nothing in them may lie on the machine that wrote them. They take the place of the "
        "image's own packages, and go beside those of conda.",
    )
    conda: Conda | None = Field(
        default=None,
        description="Conda packages. The code runs under the Python among them, whichever the "
        "image has.",
    )
    software: list[DebianPackage] | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Debian packages, such as libgomp1 or graphviz=2.42.2-7. They are unpacked "
        "without root, and put on PATH and LD_LIBRARY_PATH; their own scripts are not run.",
    )
    software_sources: list[Requirement] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Lines of a sources.list that software comes from. Default: the operator's, "
        "else the image's.",
    )


class EnvironmentVariable(Model):
    """A variable that the user's code sees."""

    name: str = Field(
        pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=255, description="Name of the variable."
    )
    value: str = Field(
        default="",
        max_length=32768,
        description="Its value. Whoever may read this resource can read it: no place for secrets.",
    )


class ImagePullSecret(Model):
    """A Secret of this namespace that opens an image registry."""

    name: ObjectName = Field(description="Name of a Secret of type kubernetes.io/dockerconfigjson.")


_BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class Surroundings(Model):
    """The fields that say where code runs."""

    image: ImageName | None = Field(
        default=None,
        description="Container image with Python in it; nothing of Shoal has to be inside. "
        "Default: the operator's image for the Python version.",
    )
    python: ImagePython | None = Field(
        default=None,
        description='Version of Python, such as "3.12" or "3.12.4", by which the operator chooses '
        "an image when none is named.",
    )
    interpreter: ImagePath | None = Field(
        default=None,
        description="Path of the Python in the image that runs the code, such as "
        "/opt/tools/bin/python. Default: python.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None,
        description="When the image is pulled. Default: as Kubernetes has it, by the image's tag.",
    )
    image_pull_secrets: list[ImagePullSecret] | None = Field(
        default=None,
        max_length=10,
        json_schema_extra=_BY_NAME,
        description="Secrets of this namespace for pulling the image.",
    )
    code: Code | None = Field(
        default=None, description="The user's own modules and files, which the SDK uploaded."
    )
    environment: Environment | None = Field(
        default=None,
        description="Packages for the code: installed once for all workers, by a Job that the "
        "operator makes.",
    )
    environment_variables: list[EnvironmentVariable] | None = Field(
        default=None,
        max_length=500,
        json_schema_extra=_BY_NAME,
        description="Variables that the code sees, in addition to the image's.",
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="Service account of the worker Pods. They get no token for the Kubernetes API. "
        "Default: the namespace's own.",
    )
