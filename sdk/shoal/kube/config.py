"""Where the cluster is and who we are: kubeconfig, or the service account of the Pod we run in.

The `kubernetes` library does the reading (contexts, several files, client certificates, tokens,
exec plugins, OIDC, token rotation in a Pod). Importing it takes some hundred milliseconds (none of
its model classes are loaded), so that happens in a thread, at the first connection.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.errors import ConfigurationError


@dataclass(frozen=True)
class Login:
    """A cluster's address, its TLS settings, and how to get the header that says who we are."""

    host: str
    tls: ssl.SSLContext | None
    authorization: Callable[[], Awaitable[str | None]]
    proxy: str | None = None
    server_hostname: str | None = None
    context: str | None = None
    fixed: bool = False
    """Made by hand: there is no configuration to read again."""


async def load(context: str | None = None, kubeconfig: str | None = None) -> Login:
    """Read the configuration as kubectl does: KUBECONFIG, ~/.kube/config, else the Pod's own.

    Raises ConfigurationError, with the places that were looked at.
    """
    files = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    found = _any_exists(files)
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    if not found and (context or kubeconfig or not in_pod):
        raise ConfigurationError(
            f"No cluster is configured: {files} does not exist"
            + ("" if in_pod else ", and this is not a Pod")
            + '. Set KUBECONFIG (for the embedded cluster: eval "$(make -s cluster-env)"), or use '
            "shoal.Local(), which needs no cluster."
        )
    configuration, config = await asyncio.to_thread(_library)
    try:
        if found:
            await config.load_kube_config(
                files, context=context, client_configuration=configuration
            )
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        where = files if found else "the Pod's service account"
        raise ConfigurationError(
            f"The cluster's configuration ({where}{f', context {context}' if context else ''}) "
            f"can't be used: {error}. `kubectl config get-contexts` lists what is there."
        ) from error

    async def authorization() -> str | None:
        header: str | None = await configuration.get_api_key_with_prefix("BearerToken")
        return header

    return Login(
        host=configuration.host.rstrip("/"),
        tls=_tls(configuration) if configuration.host.startswith("https") else None,
        authorization=authorization,
        proxy=configuration.proxy,
        server_hostname=configuration.tls_server_name,
        context=context,
    )


def _any_exists(files: str) -> bool:
    return any(os.path.exists(file) for file in files.split(os.pathsep) if file)


def _library() -> tuple[Any, Any]:
    from kubernetes.aio import client, config

    return client.Configuration(), config


def _tls(configuration: Any) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(
            cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data
        )
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificates in the configuration of {configuration.host} can't be used: {error}"
        ) from error
    if not configuration.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls
