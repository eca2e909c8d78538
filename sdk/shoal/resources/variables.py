"""Variables that the code sees: a value, or where in the namespace it stands.

The shape is that of a Pod's `env` and `envFrom`, so that what is known of those holds here too.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from .model import Model
from .rules import Rule, only_one_of
from .values import ObjectName

VariableName = Annotated[
    str, StringConstraints(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=255)
]
DataKey = Annotated[
    str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)
]


class SecretKeySelector(Model):
    """One key of a Secret."""

    name: ObjectName = Field(description="Name of a Secret of this namespace.")
    key: DataKey = Field(description="The key whose value it is.")
    optional: bool | None = Field(
        default=None, description="Whether Secret or key may be missing. Default: false."
    )


class ConfigMapKeySelector(Model):
    """One key of a ConfigMap."""

    name: ObjectName = Field(description="Name of a ConfigMap of this namespace.")
    key: DataKey = Field(description="The key whose value it is.")
    optional: bool | None = Field(
        default=None, description="Whether ConfigMap or key may be missing. Default: false."
    )


class EnvVarSource(Model):
    """Where a variable's value stands."""

    rules: ClassVar[tuple[Rule, ...]] = (only_one_of("secret_key_ref", "config_map_key_ref"),)
    secret_key_ref: SecretKeySelector | None = Field(
        default=None, description="A key of a Secret of this namespace."
    )
    config_map_key_ref: ConfigMapKeySelector | None = Field(
        default=None, description="A key of a ConfigMap of this namespace."
    )


class EnvironmentVariable(Model):
    """A variable that the user's code sees."""

    rules: ClassVar[tuple[Rule, ...]] = (only_one_of("value", "value_from"),)
    name: VariableName = Field(description="Name of the variable.")
    value: str | None = Field(
        default=None,
        max_length=32768,
        description="Its value. Whoever may read this resource can read it: what is secret belongs "
        "into a Secret, and valueFrom names that.",
    )
    value_from: EnvVarSource | None = Field(
        default=None,
        description="A Secret or ConfigMap that has its value. A worker sees the value that stood "
        "there when its Pod started.",
    )


class SecretEnvSource(Model):
    """A Secret whose keys become variables."""

    name: ObjectName = Field(description="Name of a Secret of this namespace.")
    optional: bool | None = Field(
        default=None, description="Whether the Secret may be missing. Default: false."
    )


class ConfigMapEnvSource(Model):
    """A ConfigMap whose keys become variables."""

    name: ObjectName = Field(description="Name of a ConfigMap of this namespace.")
    optional: bool | None = Field(
        default=None, description="Whether the ConfigMap may be missing. Default: false."
    )


class EnvFromSource(Model):
    """A Secret or ConfigMap of which each key is a variable."""

    rules: ClassVar[tuple[Rule, ...]] = (only_one_of("secret_ref", "config_map_ref"),)
    prefix: VariableName | None = Field(
        default=None, description="Put before each key to make the variable's name."
    )
    secret_ref: SecretEnvSource | None = Field(
        default=None, description="A Secret of this namespace."
    )
    config_map_ref: ConfigMapEnvSource | None = Field(
        default=None, description="A ConfigMap of this namespace."
    )
