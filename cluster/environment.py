"""What a client outside the cluster needs to know, as lines for a shell's `eval`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

NAMESPACE = "default"
BUCKET = "shoal"
BUCKET_SECRET = "shoal-minio"
ENDPOINT_IN_CLUSTER = "http://shoal-minio.shoal-system.svc:9000"


def variables(
    *, kubeconfig: Path, bin_folder: Path, endpoint: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """`bin_folder` comes first in PATH, once, so that `helm` and `kubectl` are the pinned ones."""
    path = environ.get("PATH", os.defpath).split(os.pathsep)
    rest = [folder for folder in path if folder != str(bin_folder)]
    return {
        "KUBECONFIG": str(kubeconfig),
        "PATH": os.pathsep.join([str(bin_folder), *rest]),
        "SHOAL_NAMESPACE": NAMESPACE,
        "SHOAL_BUCKET": BUCKET,
        "SHOAL_ENDPOINT_URL": endpoint,
        "SHOAL_ENDPOINT_URL_IN_CLUSTER": ENDPOINT_IN_CLUSTER,
        "SHOAL_BUCKET_SECRET": BUCKET_SECRET,
        # its Pods reach no index of packages
        "SHOAL_MIRROR_ENVIRONMENT": environ.get("SHOAL_MIRROR_ENVIRONMENT", "false"),
    }


def export_lines(values: Mapping[str, str]) -> str:
    """Lines that a shell evaluates, safely quoted."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
