"""Finds what a call was not told: namespace, cluster, bucket, and the key to it.

In this order: the host's arguments, SHOAL_* variables, the ConfigMap `shoal` that the operator
keeps in each namespace it watches, the seed's default. What was found is kept for a few minutes,
so that a warm call asks nobody.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping

from shoal.buckets import GenericStorageBucketSpec, StorageBucketSpec
from shoal.errors import (
    ApiError,
    ConfigurationError,
    CrdsNotInstalled,
    JobFailedException,
    NamespaceNotFound,
    NoBucket,
    NoOperator,
    SecretNotFound,
)
from shoal.hosts import Kubernetes
from shoal.kube import CONFIGMAPS, NAMESPACES, SECRETS, Client
from shoal.resources import Storage as StorageField
from shoal.storage import S3Storage

KEPT_SECONDS = 300.0
CONFIGMAP = "shoal"
VARIABLES = (
    "KUBECONFIG",
    "SHOAL_NAMESPACE",
    "SHOAL_BUCKET",
    "SHOAL_ENDPOINT_URL",
    "SHOAL_ENDPOINT_URL_IN_CLUSTER",
    "SHOAL_BUCKET_SECRET",
    "SHOAL_REGION",
)


class Place:
    """Where a call goes.

    Attributes:
        namespace: of the custom resource.
        cluster: the installation's id, the first part of every key.
        field: what stands in the custom resource, None for the operator's default bucket.
        prefix: all keys of this namespace start with it, without a slash at its end.
        azure_vault: the chart's, for an AzureSecret that names none; or "".
        secret_store: what reads secrets of clouds in the cluster, or "".
    """

    def __init__(
        self,
        namespace: str,
        cluster: str,
        wish: GenericStorageBucketSpec | None,
        field: StorageField | None,
        azure_vault: str = "",
        secret_store: str = "",
    ) -> None:
        self.namespace, self.cluster, self.field = namespace, cluster, field
        self.azure_vault, self.secret_store = azure_vault, secret_store
        self.prefix = "/".join(part for part in (wish and wish.prefix, cluster, namespace) if part)
        self._wish = wish
        self._opened: S3Storage | None = None

    async def bucket(self, api: Client, what: str) -> S3Storage:
        """Return the bucket as this machine reaches it; its key is read when it is first needed.

        Raises NoBucket, naming `what` needs one, or SecretNotFound.
        """
        if self._opened is None:
            if self._wish is None:
                raise NoBucket(
                    f"{what} needs a bucket, and none is configured. Pass "
                    "shoal.Kubernetes(storage_spec=shoal.GenericStorageBucketSpec(...)), or set "
                    "SHOAL_BUCKET and SHOAL_ENDPOINT_URL, or install the chart with a bucket. "
                    "(Only run_command with Deployment.container_image works without.)"
                )
            self._opened = await _open(api, self.namespace, self._wish)
        return self._opened


_known: dict[object, tuple[float, Place]] = {}


async def find(api: Client, host: Kubernetes) -> Place:
    """Return where calls for `host` go. Raises what is missing, and how to get it."""
    key = (host, *(os.environ.get(name) for name in VARIABLES))
    if (known := _known.get(key)) and time.monotonic() < known[0]:
        return known[1]
    namespace = host.kubernetes_namespace or os.environ.get("SHOAL_NAMESPACE") or "default"
    told = await _configmap(api, namespace)
    wish = _wish(host.storage_spec, told)
    field = _field(wish) if wish and not _is_default(wish, told) else None
    clouds = (told.get(name) or "" for name in ("azureVault", "secretStore"))
    place = Place(namespace, told["clusterId"], wish, field, *clouds)
    _known[key] = (time.monotonic() + KEPT_SECONDS, place)
    return place


def forget() -> None:
    """Look again at the next call: something turned out to be different."""
    _known.clear()


async def explain(api: Client, namespace: str, resource: str) -> JobFailedException:
    """Say why a custom resource or the ConfigMap is not there, as far as it can be found out."""
    try:
        await api.request("GET", "/apis/shoal.dev/v1alpha1")
    except ApiError as error:
        if error.status == 404:
            return CrdsNotInstalled(
                f"The cluster at {api.login.host} does not know jobs.shoal.dev: install the chart "
                "(`helm install shoal charts/shoal -n shoal-system --create-namespace`), or choose "
                "another context (shoal.Kubernetes(kube_config_context=...))"
            )
    try:
        await api.get(NAMESPACES, namespace)
    except ApiError as error:
        if error.status == 404:
            return NamespaceNotFound(
                f"The namespace {namespace} does not exist at {api.login.host}: create it, or pass "
                "shoal.Kubernetes(kubernetes_namespace=...) or SHOAL_NAMESPACE"
            )
    return NoOperator(
        f"{resource} is not in namespace {namespace}. The operator makes it in each namespace that "
        "it watches: is it running (`kubectl get pods -A -l app.kubernetes.io/name=shoal`), and is "
        f"{namespace} among the chart's watchNamespaces?"
    )


async def _configmap(api: Client, namespace: str) -> Mapping[str, str]:
    try:
        found = await api.get(CONFIGMAPS, CONFIGMAP, namespace)
    except ApiError as error:
        if error.status == 404:
            raise await explain(api, namespace, f"configmaps/{CONFIGMAP}") from error
        if error.status == 403:
            raise ConfigurationError(
                f"You may not read configmaps/{CONFIGMAP} in namespace {namespace}, which tells "
                f"where the bucket is. Ask for a Role as in examples/rbac/. ({error})"
            ) from error
        raise
    data: dict[str, str] = found.get("data") or {}
    if not data.get("clusterId"):
        raise NoOperator(
            f"configmaps/{CONFIGMAP} in namespace {namespace} has no clusterId: it is not the "
            "operator's, or the operator has not finished starting"
        )
    return data


def _wish(
    spec: StorageBucketSpec | None, told: Mapping[str, str]
) -> GenericStorageBucketSpec | None:
    """Return the bucket to use, from the argument, the variables or the ConfigMap."""
    if isinstance(spec, GenericStorageBucketSpec):
        return spec
    if spec is not None:
        raise ConfigurationError(f"{type(spec).__name__} can't be used on Kubernetes")
    env = os.environ.get
    bucket = env("SHOAL_BUCKET") or told.get("bucket")
    endpoint = env("SHOAL_ENDPOINT_URL") or told.get("endpoint") or told.get("endpointInCluster")
    if not bucket or not endpoint:
        return None
    same = (bucket, endpoint) == (told.get("bucket"), told.get("endpoint"))
    rest: Mapping[str, str] = told if same or not env("SHOAL_BUCKET") else {}
    inside = env("SHOAL_ENDPOINT_URL_IN_CLUSTER") or rest.get("endpointInCluster")
    return GenericStorageBucketSpec(
        bucket,
        endpoint,
        endpoint_url_in_cluster=inside or None,
        username_password_secret=env("SHOAL_BUCKET_SECRET") or rest.get("secretName") or None,
        region=env("SHOAL_REGION") or rest.get("region") or None,
        prefix=rest.get("prefix") or None,
    )


def _is_default(wish: GenericStorageBucketSpec, told: Mapping[str, str]) -> bool:
    """Tell whether the operator would take this bucket without being told."""
    return (
        wish.bucket == told.get("bucket")
        and (wish.prefix or "") == (told.get("prefix") or "")
        and (
            wish.endpoint_url in (told.get("endpoint"), told.get("endpointInCluster"))
            or wish.endpoint_url_in_cluster == told.get("endpointInCluster")
        )
    )


def _field(wish: GenericStorageBucketSpec) -> StorageField:
    values = {
        "bucket": wish.bucket,
        "endpoint": wish.endpoint_url,
        "endpointInCluster": wish.endpoint_url_in_cluster,
        "region": wish.region,
        "prefix": wish.prefix,
        "secretName": wish.username_password_secret,
    }
    return StorageField.from_dict({name: value for name, value in values.items() if value})


async def _open(api: Client, namespace: str, wish: GenericStorageBucketSpec) -> S3Storage:
    """Open the bucket with the named Secret's key, else with this machine's own AWS login."""
    in_a_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    endpoint = (wish.endpoint_url_in_cluster if in_a_pod else None) or wish.endpoint_url
    username = password = None
    if name := wish.username_password_secret:
        username, password = await _key(api, namespace, name)
    return S3Storage(
        wish.bucket, endpoint, access_key=username, secret_key=password, region=wish.region
    )


async def _key(api: Client, namespace: str, name: str) -> tuple[str | None, str | None]:
    try:
        secret = await api.get(SECRETS, name, namespace)
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        if os.environ.get("AWS_ACCESS_KEY_ID"):
            return None, None
        why = "does not exist" if error.status == 404 else "may not be read by you"
        raise SecretNotFound(
            f"secrets/{name} in namespace {namespace}, which holds the bucket's key, {why}, and "
            "there is no AWS login on this machine (AWS_ACCESS_KEY_ID). One of the two is needed."
        ) from error
    data = secret.get("data") or {}
    missing = [entry for entry in ("username", "password") if not data.get(entry)]
    if missing:
        raise SecretNotFound(
            f"secrets/{name} in namespace {namespace} has no {' and no '.join(missing)}; its keys "
            f"are {', '.join(data) or 'none'}, and username and password are needed"
        )
    return _decoded(data["username"]), _decoded(data["password"])


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
