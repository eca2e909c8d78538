"""S3 and what speaks like it, by the minio library (imported at the first use).

The region is always known (given, in the endpoint's name, or the default one), so that signing a
URL asks nobody. `create` sends a presigned PUT itself: the library would turn ``If-None-Match``
into user metadata and overwrite. A dead endpoint is told within seconds: short connect timeout, few
retries.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from shoal.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigurationError,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
)
from shoal.storage.base import CHUNK, ObjectInfo, checked

if TYPE_CHECKING:
    from minio import Minio

T = TypeVar("T")
CONNECT_SECONDS = 3.0
READ_SECONDS = 60.0
CREATE_SECONDS = 10.0
PART = 16 << 20
AWS = "https://s3.amazonaws.com"
DENIED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Codes with which a bucket refuses a key."""
REGION = "us-east-1"


class S3Storage:
    """One bucket at one endpoint.

    `endpoint` is a URL (None: Amazon's). Without `access_key` the key is looked up where AWS tools
    look: AWS_* variables, ~/.aws/credentials, the machine's or Pod's role. `region` defaults to
    the one in the endpoint's name (``s3.eu-west-1.amazonaws.com``), else to us-east-1.
    """

    def __init__(
        self,
        bucket: str,
        endpoint: str | None = None,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        region: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.endpoint = (endpoint or AWS).rstrip("/")
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path:
            raise ConfigurationError(
                f"The endpoint {endpoint!r} must be a URL such as http://host:9000, without a path"
            )
        self._secure, self._netloc = url.scheme == "https", url.netloc
        self._keys = (access_key, secret_key, session_token)
        self._region = region or region_of(url.hostname or "")

    @property
    def where(self) -> str:
        """Return bucket and endpoint."""
        return f"bucket {self.bucket} at {self.endpoint}"

    def check(self) -> None:
        """Raise BucketNotFound, AccessDenied or StorageUnavailable if it can't be used."""
        with_bucket = self._do("", lambda: self._client.bucket_exists(self.bucket))
        if not with_bucket:
            raise BucketNotFound(self._missing())

    def put(self, key: str, data: bytes) -> None:
        """Write the object, replacing one that is there."""
        self.put_stream(key, io.BytesIO(data), len(data))

    def create(self, key: str, data: bytes) -> bool:
        """Write the object only if there is none."""
        url = self.presign_put(key, seconds=600)

        def send() -> bool:
            headers = {"If-None-Match": "*", "Content-Type": "application/octet-stream"}
            for _ in range(3):
                answer = self._pool.request(
                    "PUT", url, body=data, headers=headers, retries=False, timeout=CREATE_SECONDS
                )
                if answer.status != 409:  # two at once: one of them is to ask again
                    break
            if answer.status in (409, 412):
                return False
            if answer.status >= 300:
                raise self._answered(answer.status, answer.data, key)
            return True

        return self._do(key, send)

    def put_stream(self, key: str, file: IO[bytes], size: int) -> None:
        """Write `size` bytes from `file`, in parts of 16 MiB where it is more."""
        name = checked(key)
        self._do(
            key,
            lambda: self._client.put_object(self.bucket, name, file, size, part_size=PART),  # type: ignore[arg-type]
        )

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        return self._do(key, lambda: self._read(key))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return a part of the object."""
        if length <= 0:
            return b""
        return self._do(key, lambda: self._read(key, offset, length))

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object in pieces."""
        answer = self._do(key, lambda: self._client.get_object(self.bucket, checked(key)))
        try:
            while piece := self._do(key, lambda: answer.read(CHUNK)):
                yield piece
        finally:
            answer.close()
            answer.release_conn()

    def info(self, key: str) -> ObjectInfo | None:
        """Return the object's size, and its age by the bucket's clock."""
        try:
            found = self._do(key, lambda: self._client.stat_object(self.bucket, checked(key)))
        except ObjectNotFound:
            return None
        date = (found.metadata or {}).get("Date")
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return self._info(found, now)

    def renew(self, key: str) -> None:
        """Have the bucket copy the object onto itself."""
        from minio.commonconfig import REPLACE, CopySource

        source = CopySource(self.bucket, checked(key))
        self._do(
            key,
            lambda: self._client.copy_object(self.bucket, key, source, metadata_directive=REPLACE),
        )

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        return self.info(key) is not None

    def delete(self, *keys: str) -> None:
        """Remove objects, many with one request."""
        from minio.deleteobjects import DeleteObject

        if len(keys) == 1:
            self._do(keys[0], lambda: self._client.remove_object(self.bucket, checked(keys[0])))
        elif keys:
            wanted: Iterable[DeleteObject] = [DeleteObject(checked(key)) for key in keys]
            failed = self._do("", lambda: list(self._client.remove_objects(self.bucket, wanted)))
            if failed:
                raise StorageError(f"{failed[0].name} in {self.where}: {failed[0].message}")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix`; ages are by this machine's clock."""
        now = datetime.now(UTC)
        objects = iter(self._client.list_objects(self.bucket, prefix, recursive=True))
        while (found := self._do(prefix, lambda: next(objects, None))) is not None:
            yield self._info(found, now)

    def presign_get(self, key: str, *, seconds: float) -> str:
        """Return a URL that reads the object."""
        return self._presign("GET", key, seconds)

    def presign_put(self, key: str, *, seconds: float) -> str:
        """Return a URL that writes the object."""
        return self._presign("PUT", key, seconds)

    def presign_delete(self, key: str, *, seconds: float) -> str:
        """Return a URL that removes the object."""
        return self._presign("DELETE", key, seconds)

    def presign_list(self, prefix: str, *, after: str = "", seconds: float) -> str:
        """Return a URL that lists up to 1000 keys which start with `prefix` and follow `after`."""
        from minio.signer import presign_v4

        query: dict[str, Any] = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        if after:
            query["start-after"] = after
        life, now = int(seconds), datetime.now(UTC)

        def sign() -> str:
            # the library signs no URL without an object's name
            provider: Any = self._client._provider
            known = provider.retrieve()
            if known.session_token:
                query["X-Amz-Security-Token"] = known.session_token
            url = self._client._base_url.build(
                method="GET", region=self._region, bucket_name=self.bucket, query_params=query
            )
            signed = presign_v4(
                method="GET",
                url=url,
                region=self._region,
                credentials=known,
                date=now,
                expires=life,
            )
            return urlunsplit(signed)

        return self._do(prefix, sign)

    # the library and its errors

    @cached_property
    def _pool(self) -> Any:
        import certifi
        import urllib3

        return urllib3.PoolManager(
            maxsize=32,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=urllib3.Retry(
                total=3,
                connect=1,
                redirect=False,
                backoff_factor=0.2,
                status_forcelist=(500, 502, 503, 504),
            ),
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
        )

    @cached_property
    def _client(self) -> Minio:
        from minio import Minio

        return Minio(
            self._netloc,
            secure=self._secure,
            region=self._region,
            http_client=self._pool,
            credentials=self._provider(),
        )

    def _provider(self) -> Any:
        from minio.credentials.providers import (
            AWSConfigProvider,
            ChainedProvider,
            EnvAWSProvider,
            IamAwsProvider,
            StaticProvider,
        )

        access_key, secret_key, token = self._keys
        if access_key:
            return StaticProvider(access_key, secret_key or "", token)
        role = IamAwsProvider(http_client=self._pool)
        return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), role])

    def _presign(self, method: str, key: str, seconds: float) -> str:
        life, name = timedelta(seconds=seconds), checked(key)
        return self._do(
            key, lambda: self._client.get_presigned_url(method, self.bucket, name, expires=life)
        )

    def _read(self, key: str, offset: int = 0, length: int = 0) -> bytes:
        answer = self._client.get_object(self.bucket, checked(key), offset=offset, length=length)
        try:
            data: bytes = answer.read()
            return data
        finally:
            answer.close()
            answer.release_conn()

    def _info(self, found: Any, now: datetime) -> ObjectInfo:
        age = max((now - found.last_modified).total_seconds(), 0.0)
        return ObjectInfo(found.object_name, found.size or 0, found.last_modified, age)

    def _do(self, key: str, action: Callable[[], T]) -> T:
        """Run `action`; turn what the libraries raise into our errors."""
        from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
        from urllib3.exceptions import HTTPError

        try:
            with _quiet():
                return action()
        except S3Error as error:
            status = error.response.status if error.response else 0
            raise self._refused(error.code or "", error.message or "", status, key) from error
        except (InvalidResponseError, ServerError, HTTPError, OSError) as error:
            raise StorageUnavailable(
                f"{self.where} can't be used: {_words(error)}. Is it an S3 endpoint, up, and "
                "reachable from this machine?"
            ) from error
        except MinioException as error:
            raise StorageError(f"{self.where}: {error}") from error
        except ValueError as error:
            if "credential" in str(error).lower() or "retrieve" in str(error).lower():
                raise AccessDenied(
                    f"There is no key for {self.where}: {error}. Name a Secret "
                    "(username_password_secret), or log in so that the AWS tools work."
                ) from error
            raise ConfigurationError(f"{self.where}: {error}") from error

    def _answered(self, status: int, body: bytes, key: str) -> StorageError:
        from xml.etree import ElementTree

        try:
            answer = ElementTree.fromstring(body)
            code, message = answer.findtext("Code") or "", answer.findtext("Message") or ""
        except ElementTree.ParseError:
            code, message = f"HTTP {status}", body[:200].decode(errors="replace")
        return self._refused(code, message, status, key)

    def _refused(self, code: str, message: str, status: int, key: str) -> StorageError:
        at = f"{key} in {self.where}" if key else self.where
        if code == "NoSuchBucket":
            return BucketNotFound(self._missing())
        if code in ("NoSuchKey", "NoSuchVersion"):
            return ObjectNotFound(f"{key} is not in {self.where}")
        if code in DENIED or status == 403:
            return AccessDenied(f"{at} may not be used with this key: {message} ({code})")
        if status >= 500 or code in ("SlowDown", "ServiceUnavailable"):
            return StorageUnavailable(f"{at}: {message} ({code})")
        if code == "AuthorizationHeaderMalformed":
            return StorageError(f"{at}: {message} ({code}). Name the bucket's region")
        return StorageError(f"{at}: {message} ({code})")

    def _missing(self) -> str:
        return f"There is no bucket {self.bucket} at {self.endpoint}: create it, or name another"


def region_of(host: str) -> str:
    """Return the region that an Amazon endpoint's name tells, else the default one."""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return REGION
    found = re.search(r"(?:^|[.-])([a-z]{2,3}(?:-[a-z]{3,10}){1,2}-\d)(?=\.)", host)
    if found is not None:
        return found.group(1)
    return "cn-north-1" if host.endswith(".cn") else REGION


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's warnings of each repeated request from users: ours is told once."""
    before, _ours.quiet = getattr(_ours, "quiet", False), True
    try:
        yield
    finally:
        _ours.quiet = before


def _is_told(record: logging.LogRecord) -> bool:
    return not getattr(_ours, "quiet", False)


_ours = threading.local()
logging.getLogger("urllib3.connectionpool").addFilter(_is_told)


def _words(error: BaseException) -> str:
    cause = getattr(error, "reason", None) or error
    text = str(cause).rpartition(">: ")[2] or str(cause)
    return text or type(cause).__name__
