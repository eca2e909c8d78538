"""What the tests on a cluster share: a client, and a fresh namespace.

They expect the release `shoal` in the namespace `shoal-system` (`make deploy`) and KUBECONFIG, and
leave nothing but what was there before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))  # the tests' own modules

from chaos import Chaos, until_well
from gates import Gate
from git_server import GitServer, address_towards, debian_packages, git_server, serve_http
from namespaces import Place, give_key, make_place

import shoal
from shoal.kube import NAMESPACES, Client, connect


@pytest.fixture
async def api() -> AsyncIterator[Client]:
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    async with await connect() as client:
        yield client


@pytest.fixture
async def place(api: Client) -> AsyncIterator[Place]:
    """A namespace of the test's own, served by the operator, deleted after it."""
    made = await make_place(api)
    yield made
    await api.delete(NAMESPACES, made.namespace)


@pytest.fixture
async def user(place: Place, bucket_key: str) -> Place:
    """A namespace in which a user of the SDK may work."""
    return place


@pytest.fixture
async def chaos(api: Client) -> AsyncIterator[Chaos]:
    """Faults; the cluster and its operator are well before them, and again after them."""
    await until_well(api)
    yield Chaos(api)
    await until_well(api)
    # Kubernetes' own controllers need a while to see that the API server is back
    await api.delete(NAMESPACES, (await make_place(api, patience=90)).namespace)


@pytest.fixture
def gate(place: Place) -> Gate:
    """A gate at which tasks wait."""
    return Gate(place)


@pytest.fixture
async def other_user(api: Client) -> AsyncIterator[Place]:
    """The namespace of another user."""
    async with _place_with_key(api) as made:
        yield made


@pytest.fixture
async def third_user(api: Client) -> AsyncIterator[Place]:
    """The namespace of a third one."""
    async with _place_with_key(api) as made:
        yield made


@asynccontextmanager
async def _place_with_key(api: Client) -> AsyncIterator[Place]:
    made = await make_place(api)
    await give_key(made)
    yield made
    await api.delete(NAMESPACES, made.namespace)


@pytest.fixture
async def bucket_key(place: Place) -> str:
    """The name of a Secret of the namespace with the default bucket's key."""
    await give_key(place)
    return "shoal-minio"


@pytest.fixture
async def git(api: Client, tmp_path: Path) -> AsyncIterator[GitServer]:
    async with git_server(api, tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for Debian's packages, filled once."""
    return tmp_path_factory.mktemp("debian")


@pytest.fixture
async def tools(
    api: Client, user: Place, debian: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """git and ssh for images that have none."""
    if not (debian / "archives" / "Packages").exists():
        status = await shoal.run_function(
            lambda: Path("/var/lib/dpkg/status").read_text(), user.host(), None, shoal.Deployment()
        )
        await debian_packages(status, ("git", "openssh-client"), debian)

    async def answer(request: web.Request) -> web.StreamResponse:
        path = debian / "archives" / request.path.rpartition("/")[2]
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    async with AsyncExitStack() as stack:
        address = await address_towards(api)
        port = await serve_http(stack, address, answer)
        monkeypatch.setenv("SHOAL_DEBIAN_SOURCES", f"deb [trusted=yes] http://{address}:{port} ./")
        yield
