"""Everything that the chart may tell the operator, read once from `SHOAL_OP_*` and frozen.

`Settings.from_env` is the only place that looks at the environment. A value that cannot be used
stops the start with a message that names the variable: a wrong setting found at a Job's first
failure would be found too late.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .quantities import whole

PREFIX = "SHOAL_OP_"

_STORE = re.compile(r"^(Cluster)?SecretStore/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")


class SettingsError(ValueError):
    """A `SHOAL_OP_*` variable is missing or cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings; times in seconds."""

    namespace: str
    """Where the operator itself lives: its Lease, its Secrets, its Service."""
    instance: str
    """The release; the value of the label `shoal.dev/instance` on all that the operator makes."""
    cluster_id: str
    """First part of every bucket key, so that clusters can share a bucket."""
    service_name: str
    """The Service in front of the dispatcher; also the stem of the Lease's and the Secret's
    names."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty means all."""
    port: int = 8443
    """Where workers reach the dispatcher (TLS)."""
    health_port: int = 8080
    """Where /healthz, /readyz and /metrics are (no TLS)."""
    default_bucket: str = ""
    """Bucket of jobs that name none; empty means that such jobs need no bucket or fail."""
    default_endpoint: str = ""
    """The bucket's endpoint as clients outside the cluster reach it."""
    default_endpoint_in_cluster: str = ""
    """The same, seen from inside; empty means the same as outside."""
    default_region: str = ""
    """Region of the default bucket; empty means the endpoint's own, else us-east-1."""
    default_prefix: str = ""
    """Folder inside the default bucket under which all keys are."""
    create_bucket: bool = False
    """Make the default bucket when it does not exist (the try-out MinIO)."""
    bucket_secret: str = ""
    """Secret in the operator's namespace with the default bucket's username and password."""
    user_secret_name: str = ""
    """Secret in users' namespaces that the SDK may read, told in the ConfigMap `shoal`."""
    azure_vault: str = ""
    """Vault of users' Azure secrets that name none, told in the ConfigMap `shoal`."""
    secret_store: str = ""
    """Store that reads users' secrets of clouds, such as ClusterSecretStore/aws, told there too."""
    python_images: Mapping[str, str] = field(default_factory=dict)
    """Image for a Python minor version, e.g. {"3.11": "python:3.11-slim"}."""
    default_image: str = "python:3.11-slim"
    """Image of jobs that name neither an image nor a Python version."""
    image_pull_secrets: tuple[str, ...] = ()
    """Pull secrets put into every worker Pod."""
    max_parallelism: int = 64
    """The most workers that one map may ask for, and a Deployment's default maxWorkers."""
    image_pull_seconds: float = 60.0
    """How long an image may fail to be pulled before jobs that wait for it fail."""
    contact_seconds: float = 30.0
    """How long a started worker may stay silent before it counts as unable to reach the
    operator."""
    missing_seconds: float = 60.0
    """How long a Secret or a bucket may be absent or unreachable before the job fails."""
    deployment_seconds: float = 300.0
    """How long a job waits for its Deployment when it sets no deploymentDeadlineSeconds."""
    start_deadline_seconds: float = 3600.0
    """How long a job may have no worker for want of room when it sets no startDeadlineSeconds."""
    sweep_seconds: float = 60.0
    """Interval of the slow sweep that makes the operator level-triggered."""
    bucket_sweep_seconds: float = 600.0
    """Least time between two looks through the default bucket for what belongs to nobody."""
    grace_seconds: float = 86400.0
    """Age, by the bucket's clock, at which inputs and code without a reference are deleted."""
    orphan_seconds: float = 60.0
    """Age at which what a deleted job has left in the bucket is deleted by the sweep."""
    worker_cpu: str = "100m"
    """CPU that a worker asks for whose job and Deployment ask for none."""
    worker_cpu_limit: str = "2"
    """The most CPU that such a worker gets: it starts and works fast where there is room."""
    worker_memory: str = "512Mi"
    """Memory of a worker whose job and Deployment ask for none."""
    build_variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of builder Pods, such as UV_DEFAULT_INDEX."""
    debian_sources: tuple[str, ...] = ()
    """Lines of a sources.list for Debian packages; none means the image's own."""
    known_hosts: tuple[str, ...] = ()
    """Lines of a known_hosts, for git repositories over SSH."""
    build_memory: str = "1Gi"
    """Memory of a builder Pod."""
    build_seconds: float = 3600.0
    """How long an environment may take to be built."""
    machine: str = field(default_factory=platform.machine)
    """The operator's own architecture, such as x86_64: that of environments, which its uv makes."""
    operator_version: str = ""
    """Told in the ConfigMap `shoal`."""
    log_level: str = "INFO"
    """Python's name of the level."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read `SHOAL_OP_*` from `environ`; raise SettingsError that names the variable."""
        from shoal import __version__

        read = _Reader(environ)
        service = read.name("SERVICE_NAME", "shoal")
        settings = cls(
            namespace=read.name("NAMESPACE"),
            instance=read.name("INSTANCE"),
            cluster_id=read.name("CLUSTER_ID"),
            service_name=service,
            watch_namespaces=read.words("WATCH_NAMESPACES"),
            port=read.integer("PORT", 8443, low=1, high=65535),
            health_port=read.integer("HEALTH_PORT", 8080, low=1, high=65535),
            default_bucket=read.text("DEFAULT_BUCKET"),
            default_endpoint=read.url("DEFAULT_ENDPOINT"),
            default_endpoint_in_cluster=read.url("DEFAULT_ENDPOINT_IN_CLUSTER"),
            default_region=read.text("DEFAULT_REGION"),
            default_prefix=read.text("DEFAULT_PREFIX").strip("/"),
            create_bucket=read.boolean("CREATE_BUCKET", default=False),
            bucket_secret=read.text("BUCKET_SECRET"),
            user_secret_name=read.text("USER_SECRET_NAME"),
            azure_vault=read.text("AZURE_VAULT"),
            secret_store=read.store("SECRET_STORE"),
            python_images=read.mapping("PYTHON_IMAGES"),
            default_image=read.text("DEFAULT_IMAGE") or "python:3.11-slim",
            image_pull_secrets=read.words("IMAGE_PULL_SECRETS"),
            max_parallelism=read.integer("MAX_PARALLELISM", 64, low=1, high=10_000),
            image_pull_seconds=read.seconds("IMAGE_PULL_SECONDS", 60.0),
            contact_seconds=read.seconds("CONTACT_SECONDS", 30.0),
            missing_seconds=read.seconds("MISSING_SECONDS", 60.0),
            deployment_seconds=read.seconds("DEPLOYMENT_SECONDS", 300.0),
            start_deadline_seconds=read.seconds("START_DEADLINE_SECONDS", 3600.0),
            sweep_seconds=read.seconds("SWEEP_SECONDS", 60.0),
            bucket_sweep_seconds=read.seconds("BUCKET_SWEEP_SECONDS", 600.0),
            grace_seconds=read.seconds("GRACE_SECONDS", 86400.0),
            orphan_seconds=read.seconds("ORPHAN_SECONDS", 60.0),
            worker_cpu=read.text("WORKER_CPU") or "100m",
            worker_cpu_limit=read.text("WORKER_CPU_LIMIT") or "2",
            worker_memory=read.amount("WORKER_MEMORY", "512Mi"),
            build_variables=read.mapping("BUILD_VARIABLES"),
            debian_sources=tuple(filter(None, read.text("DEBIAN_SOURCES").splitlines())),
            known_hosts=tuple(filter(None, read.text("KNOWN_HOSTS").splitlines())),
            build_memory=read.amount("BUILD_MEMORY", "1Gi"),
            build_seconds=read.seconds("BUILD_SECONDS", 3600.0),
            operator_version=__version__,
            log_level=(read.text("LOG_LEVEL") or "INFO").upper(),
        )
        if settings.default_bucket and not settings.bucket_secret:
            raise SettingsError(
                f"{PREFIX}DEFAULT_BUCKET is {settings.default_bucket!r}, but "
                f"{PREFIX}BUCKET_SECRET is empty: "
                "name the Secret that holds the bucket's username and password"
            )
        return settings

    @property
    def server_name(self) -> str:
        """The name in the dispatcher's certificate."""
        return f"{self.service_name}.{self.namespace}.svc"

    @property
    def audience(self) -> str:
        """Audience of the tokens by which workers say who they are."""
        return f"shoal:{self.cluster_id}"

    @property
    def lease_name(self) -> str:
        """The Lease that makes this operator the only one of its release."""
        return self.service_name

    @property
    def authority_secret(self) -> str:
        """Secret with the certificate authority and the MAC key, made by the operator."""
        return f"{self.service_name}-authority"

    def watches(self, namespace: str) -> bool:
        """Whether objects of `namespace` are this operator's to serve."""
        return not self.watch_namespaces or namespace in self.watch_namespaces


class _Reader:
    """Typed look-ups in an environment, each naming the variable that it could not use."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(PREFIX + name, "").strip()

    def name(self, name: str, default: str = "") -> str:
        value = self.text(name) or default
        if not value:
            raise SettingsError(f"{PREFIX}{name} is not set: the operator cannot start without it")
        if not _NAME.match(value):
            raise SettingsError(
                f"{PREFIX}{name} is {value!r}, but must be lower-case letters, digits, "
                "'-' and '.', at most 63 of them"
            )
        return value

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.text(name).split(",") if word.strip())

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        text = self.text(name)
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            raise SettingsError(f"{PREFIX}{name} is {text!r}, but must be a whole number") from None
        if not low <= value <= high:
            raise SettingsError(f"{PREFIX}{name} is {value}, but must be from {low} to {high}")
        return value

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(
                f"{PREFIX}{name} is {text!r}, but must be a number of seconds"
            ) from None
        if not 0 < value < 1e9:
            raise SettingsError(f"{PREFIX}{name} is {text}, but must be above 0 seconds")
        return value

    def amount(self, name: str, default: str) -> str:
        text = self.text(name) or default
        try:
            whole(text)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name}: {error}") from None
        return text

    def boolean(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower()
        if text not in ("", "true", "false"):
            raise SettingsError(f"{PREFIX}{name} is {text!r}, but must be true or false")
        return default if not text else text == "true"

    def url(self, name: str) -> str:
        text = self.text(name).rstrip("/")
        if text and not text.startswith(("http://", "https://")):
            raise SettingsError(
                f"{PREFIX}{name} is {text!r}, but must begin with http:// or https://"
            )
        return text

    def store(self, name: str) -> str:
        text = self.text(name)
        if text and not _STORE.match(text):
            raise SettingsError(
                f"{PREFIX}{name} is {text!r}, but must be SecretStore/NAME or "
                "ClusterSecretStore/NAME"
            )
        return text

    def mapping(self, name: str) -> dict[str, str]:
        text = self.text(name)
        if not text:
            return {}
        try:
            value = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name} is not JSON: {error}") from None
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise SettingsError(f"{PREFIX}{name} must be a JSON object of strings")
        return value
