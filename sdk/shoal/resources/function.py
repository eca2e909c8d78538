"""What is run: a function by importable name with JSON arguments, or a pickled one in the bucket.

A custom resource never holds pickled bytes; it holds their digest, so that a worker can tell that
what it fetched is what was submitted.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .model import Model
from .rules import Rule, only_one_of
from .values import FunctionName, Json, JsonObject, PythonVersion, Sha256, Size


class Payload(Model):
    """Pickled inputs that the SDK uploaded before it created this resource."""

    sha256: Sha256 = Field(
        description="SHA-256 of the uploaded object, in hexadecimal. Nothing else is unpickled."
    )
    size: Size = Field(description="Size of the uploaded object in bytes.")
    python: PythonVersion = Field(
        description='Minor version of the Python that pickled, such as "3.12". '
        "The image must have the same one."
    )


class Function(Model):
    """The function of a Job: `name` with `args` and `kwargs`, or `payload`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        only_one_of("name", "payload"),
        Rule(
            "!has(self.payload) || (!has(dyn(self).args) && !has(dyn(self).kwargs))",
            "args and kwargs go with name; a payload has its own arguments: remove them",
            holds=lambda f: f.payload is None or (f.args is None and f.kwargs is None),
        ),
    )
    name: FunctionName | None = Field(
        default=None,
        description='A function that the worker can import, such as "package.module.function".',
    )
    args: list[Json] | None = Field(
        default=None,
        max_length=1000,
        description="Positional arguments of name, as JSON. Kubernetes stores 1.0 as 1.",
    )
    kwargs: JsonObject | None = Field(
        default=None,
        description="Keyword arguments of name, as JSON. Kubernetes stores 1.0 as 1, and "
        "kubectl apply drops a null inside an object.",
    )
    payload: Payload | None = Field(
        default=None, description="A pickled function and its arguments, which the SDK uploaded."
    )


class MapFunction(Model):
    """The function of a MapJob, called as `function(item)`."""

    rules: ClassVar[tuple[Rule, ...]] = (only_one_of("name", "payload"),)
    name: FunctionName | None = Field(
        default=None,
        description='A function that the worker can import, such as "package.module.function". '
        "It is called with one item.",
    )
    payload: Payload | None = Field(
        default=None, description="A pickled function and the items' index, which the SDK uploaded."
    )
