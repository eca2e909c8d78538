"""Who may talk to the dispatcher: tokens signed by the cluster, bound to Pods that we made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from shoal.dispatch import Unauthorized
from shoal_operator.cache import Cache
from shoal_operator.identity import Identity

Make = Callable[..., Any]
NOW = 1_800_000_000.0


class Cluster:
    """Signs tokens as the API server does, and publishes its keys."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = "first"
        self.asked = 0

    async def keys(self) -> dict[str, Any]:
        self.asked += 1
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [public | {"kid": self.kid, "alg": "RS256", "use": "sig"}]}

    def token(self, uid: str = "pod-1", namespace: str = "default", **claims: Any) -> str:
        bound = {"namespace": namespace, "pod": {"uid": uid, "name": f"worker-{uid}"}}
        body = {"aud": ["shoal:c"], "exp": 4_000_000_000, "kubernetes.io": bound} | claims
        return jwt.encode(body, self.key, algorithm="RS256", headers={"kid": self.kid})


@pytest.fixture(scope="module")
def signer() -> Cluster:
    return Cluster()


@pytest.fixture
def cluster(signer: Cluster) -> Cluster:
    signer.asked, signer.kid = 0, "first"
    return signer


@pytest.fixture
def cache(pod: Make) -> Cache:
    made = Cache()
    made.put_pod(pod())
    return made


@pytest.fixture
def identity(cluster: Cluster, cache: Cache) -> Identity:
    made = Identity(cache, cluster.keys, audience="shoal:c", mac_key=b"k" * 32, now=lambda: NOW)
    made.made("pod-1")
    return made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_pod_that_we_made_is_known(identity: Identity, cluster: Cluster) -> None:
    worker = await identity.authenticate(bearer(cluster.token()))
    assert (worker.pod_uid, worker.pool) == ("pod-1", "default/0123456789ab")


async def test_the_keys_are_read_once(identity: Identity, cluster: Cluster) -> None:
    for _ in range(3):
        await identity.authenticate(bearer(cluster.token()))
    assert cluster.asked == 1


@pytest.mark.parametrize(
    "claims", [{"aud": ["shoal:other"]}, {"aud": ["https://kubernetes.default"]}, {"exp": 1}]
)
async def test_tokens_for_others_and_old_ones_are_refused(
    identity: Identity, cluster: Cluster, claims: dict[str, Any]
) -> None:
    with pytest.raises(Unauthorized):
        await identity.authenticate(bearer(cluster.token(**claims)))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic x"}, bearer("not a token")])
async def test_no_token_is_no_worker(identity: Identity, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        await identity.authenticate(headers)


async def test_another_signer_is_refused(identity: Identity) -> None:
    with pytest.raises(Unauthorized):
        await identity.authenticate(bearer(Cluster().token()))


async def test_an_unsigned_token_is_refused(identity: Identity, cluster: Cluster) -> None:
    body = jwt.decode(cluster.token(), options={"verify_signature": False})
    forged = jwt.encode(body, "", algorithm="none", headers={"kid": "first"})
    with pytest.raises(Unauthorized):
        await identity.authenticate(bearer(forged))


async def test_a_pod_that_somebody_else_made_is_refused(
    identity: Identity, cluster: Cluster, cache: Cache, pod: Make
) -> None:
    # same owner, same labels, and even the annotation of a worker of ours
    cache.put_pod(
        pod("pod-2", mac=identity.mac("default", "worker-pod-1", "owner", "0123456789ab"))
    )
    with pytest.raises(Unauthorized, match="not made by this operator"):
        await identity.authenticate(bearer(cluster.token("pod-2")))


async def test_after_a_restart_the_annotation_tells(
    identity: Identity, cluster: Cluster, cache: Cache, pod: Make
) -> None:
    mac = identity.mac("default", "worker-pod-3", "owner", "0123456789ab")
    cache.put_pod(pod("pod-3", mac=mac))
    assert (await identity.authenticate(bearer(cluster.token("pod-3")))).pod_uid == "pod-3"
    cache.put_pod(pod("pod-4", name="worker-pod-3", pool="ffffffffffff", mac=mac))
    with pytest.raises(Unauthorized):
        await identity.authenticate(bearer(cluster.token("pod-4")))


async def test_a_pod_that_is_being_deleted_is_refused_at_once(
    identity: Identity, cluster: Cluster, cache: Cache, pod: Make
) -> None:
    headers = bearer(cluster.token())
    await identity.authenticate(headers)
    cache.put_pod(pod(deleting=True))
    with pytest.raises(Unauthorized, match="being deleted"):
        await identity.authenticate(headers)
    cache.drop_pod("pod-1")
    identity.forget("pod-1")
    with pytest.raises(Unauthorized):
        await identity.authenticate(headers)


async def test_a_token_of_another_namespace_is_refused(
    identity: Identity, cluster: Cluster
) -> None:
    with pytest.raises(Unauthorized, match="namespace"):
        await identity.authenticate(bearer(cluster.token(namespace="other")))


async def test_a_new_key_of_the_cluster_is_found(cluster: Cluster, cache: Cache) -> None:
    now = [NOW]
    made = Identity(cache, cluster.keys, audience="shoal:c", mac_key=b"k" * 32, now=lambda: now[0])
    made.made("pod-1")
    await made.authenticate(bearer(cluster.token()))
    cluster.kid = "second"
    rotated = bearer(cluster.token())
    with pytest.raises(Unauthorized):  # not again within seconds, or strangers could make us ask
        await made.authenticate(rotated)
    now[0] += 6
    await made.authenticate(rotated)
    assert cluster.asked == 2
