"""Where code runs: image, the user's own code, variables, pull secrets, requests.

`Surroundings` are the fields that a Deployment and the deployment inside a Job share.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.config import JsonDict

from .environment import Environment
from .model import Model
from .rules import Rule
from .values import (
    ImageName,
    ImagePath,
    ImagePython,
    ObjectName,
    Quantity,
    RelativePath,
    Sha256,
    Size,
)
from .variables import EnvFromSource, EnvironmentVariable


class Resources(Model):
    """What one worker asks for. Requests and limits are the same, so that nobody is surprised."""

    cpu: Quantity | None = Field(
        default=None, description='CPUs, such as 2 or "500m". Write fractions as text.'
    )
    memory: Quantity | None = Field(default=None, description="Memory, such as 2Gi.")
    ephemeral_storage: Quantity | None = Field(
        default=None, description="Local disk for scratch files, such as 10Gi."
    )


class CodePart(Model):
    """Some of the files, as a zip in the bucket."""

    sha256: Sha256 = Field(
        description="SHA-256 of the zip, in hexadecimal; also its name in the bucket's folder code."
    )
    size: Size = Field(description="Size of the zip in bytes.")


class Code(Model):
    """The user's own modules and files, which each worker unpacks into one folder."""

    parts: list[CodePart] = Field(
        min_length=1, max_length=64, description="The zips, unpacked in this order."
    )
    sys_paths: list[RelativePath] = Field(
        default=["."],
        max_length=200,
        description="Folders of the code that are put on sys.path, in this order.",
    )
    working_directory: RelativePath = Field(
        default=".", description="Folder of the code in which it runs."
    )


class ImagePullSecret(Model):
    """A Secret of this namespace that opens an image registry."""

    name: ObjectName = Field(description="Name of a Secret of type kubernetes.io/dockerconfigjson.")


CODE_ONCE = Rule(
    "!has(self.code) || !has(self.environment) || !has(self.environment.git)",
    "code and environment.git both say what the code is: remove one of them",
    holds=lambda s: not (s.code and s.environment and s.environment.git),
)


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
    env_from: list[EnvFromSource] | None = Field(
        default=None,
        max_length=100,
        description="Secrets and ConfigMaps of which each key is a variable. Where a name comes "
        "twice the last one counts, and environmentVariables before all of these.",
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="Service account of the worker Pods. They get no token for the Kubernetes API. "
        "Default: the namespace's own.",
    )
