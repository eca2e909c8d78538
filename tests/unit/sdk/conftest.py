"""A real MinIO on a loopback port, and a Local host that the SDK's tests share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import shoal
from shoal.storage import S3Storage

ROOT = Path(__file__).parents[3]
BUILD_MINIO = """
from cluster import binaries, folders
places = folders.from_environment()
binaries.build(places, [binaries.minio()])
print(places.bin)
"""
USER, PASSWORD = "testing-user", "testing-password"


@dataclass(frozen=True)
class Minio:
    endpoint: str

    def bucket(self, name: str, *, make: bool = True, **changes: str) -> S3Storage:
        keys = {"access_key": USER, "secret_key": PASSWORD, **changes}
        storage = S3Storage(name, self.endpoint, **keys)
        if make and not storage._client.bucket_exists(name):
            storage._client.make_bucket(name)
        return storage


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    built = subprocess.run(
        [sys.executable, "-c", BUILD_MINIO], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    program = Path(built.stdout.splitlines()[-1]) / "minio"
    endpoint = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD}
    folder = tmp_path_factory.mktemp("minio")
    words = [str(program), "server", "--quiet", "--address", endpoint, str(folder)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or answers(endpoint))
            assert process.poll() is None, "minio did not start"
            yield Minio(f"http://{endpoint}")
        finally:
            process.terminate()


def answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{endpoint}/minio/health/live", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def wait_until(ready: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not become ready"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> shoal.Local:
    return shoal.Local(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="session")
def here() -> shoal.Deployment:
    """No code but what is pickled: tests of other things need not pack this repository."""
    return shoal.Deployment()
