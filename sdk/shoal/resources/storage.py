"""Where inputs and results travel: a bucket that speaks S3."""

from __future__ import annotations

from pydantic import Field

from .model import Model, StatusModel
from .values import ObjectName, Url

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]$"
_PREFIX = r"^[A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*$"


class Storage(Model):
    """A bucket of the user's own, in place of the operator's default one."""

    bucket: str = Field(pattern=_NAME, max_length=222, description="Name of the bucket.")
    endpoint: Url = Field(
        description="URL of the S3 service as clients outside the cluster reach it, "
        "such as https://s3.eu-west-1.amazonaws.com."
    )
    endpoint_in_cluster: Url | None = Field(
        default=None,
        description="URL of the same service as Pods reach it. Default: the value of endpoint.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        max_length=64,
        description="Region that requests are signed for. Default: the one in an amazonaws.com "
        "endpoint, else us-east-1.",
    )
    prefix: str | None = Field(
        default=None,
        pattern=_PREFIX,
        max_length=512,
        description="Folder in the bucket under which every key lies, without slashes at its ends.",
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret of this namespace with the keys username and password. The operator "
        "must be allowed to read it (chart value storage.secretNames).",
    )


class ResolvedStorage(StatusModel):
    """The bucket that the operator settled on."""

    bucket: str | None = Field(default=None, description="Name of the bucket.")
    endpoint: str | None = Field(
        default=None, description="URL of the S3 service from outside the cluster."
    )
    endpoint_in_cluster: str | None = Field(
        default=None, description="URL of the S3 service from inside the cluster."
    )
    region: str | None = Field(default=None, description="Region that requests are signed for.")
    prefix: str | None = Field(
        default=None, description="Folder in the bucket under which every key lies."
    )
