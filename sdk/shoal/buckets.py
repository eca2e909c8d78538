"""Which bucket inputs and results travel through, as users say it."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from shoal.errors import NotSupportedYet


class StorageBucketSpec(abc.ABC):
    """Specifies a bucket; see the classes below."""

    @property
    @abc.abstractmethod
    def bucket_name(self) -> str:
        """Return the bucket's name."""


@dataclass(frozen=True)
class GenericStorageBucketSpec(StorageBucketSpec):
    """A bucket of any service that speaks S3, with an access key and a secret key.

    Attributes:
        bucket: its name.
        endpoint_url: the service as this machine reaches it, such as https://s3.amazonaws.com.
        endpoint_url_in_cluster: the service as Pods reach it; None means `endpoint_url`.
        username_password_secret: a Secret of the jobs' namespace with the keys `username` and
            `password` (access key and secret key). None: this machine uses its own AWS login, and
            the operator its own.
        region: the region that requests are signed for; None means the one in an amazonaws.com
            endpoint, else us-east-1.
        prefix: a folder in the bucket for everything that Shoal writes.
    """

    bucket: str
    endpoint_url: str
    endpoint_url_in_cluster: str | None = None
    username_password_secret: str | None = None
    region: str | None = None
    prefix: str | None = None

    @property
    def bucket_name(self) -> str:
        """Return the bucket's name."""
        return self.bucket


@dataclass(frozen=True)
class GoogleBucketSpec(StorageBucketSpec):
    """A bucket in Google Cloud Storage; comes with a later version."""

    bucket: str

    def __post_init__(self) -> None:
        """Refuse, rather than fail later."""
        raise NotSupportedYet(
            "GoogleBucketSpec comes with a later version; GenericStorageBucketSpec works with "
            "https://storage.googleapis.com and an HMAC key"
        )

    @property
    def bucket_name(self) -> str:
        """Return the bucket's name."""
        return self.bucket
