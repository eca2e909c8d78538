"""What the tests on a cluster share: a client, and a fresh namespace.

They expect the release `shoal` in the namespace `shoal-system` (`make deploy`) and KUBECONFIG, and
leave nothing but what was there before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests' own modules

from chaos import Chaos, until_well
from gates import Gate
from namespaces import Place, give_key, make_place

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
