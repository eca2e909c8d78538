"""Who a worker is: a projected token, checked without asking the API server.

The kubelet gives each worker Pod a token whose audience is this installation. It is signed by the
cluster; the public keys are read from `/openid/v1/jwks` and read again when a key is not known. The
token names the Pod it is bound to, and that Pod's uid must be one that the operator made: known
from its own create, or, after a restart, by the MAC in the Pod's annotation. An owner reference
proves nothing, since anyone who may create Pods can write one.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jwt

from shoal.dispatch import Unauthorized, WorkerIdentity

from .cache import Cache
from .observe import PodFact
from .pods import mac_message
from .pools import pool_key

KEYS_SECONDS = 3600.0
"""The cluster's keys are read again at the latest after so long."""
REFRESH_SECONDS = 5.0
"""Tokens with unknown keys don't make us read the keys more often than this."""


class KeySource(Protocol):
    """Where the cluster's public keys come from."""

    async def __call__(self) -> Mapping[str, Any]:
        """Return the JSON Web Key Set."""
        ...


class Identity:
    """Checks the tokens of workers; remembers those that it found good until they expire."""

    def __init__(
        self,
        cache: Cache,
        keys: KeySource,
        *,
        audience: str,
        mac_key: bytes,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._read_keys = keys
        self._audience = audience
        self._mac_key = mac_key
        self._now = now
        self._keys: dict[str, Any] = {}
        self._keys_read = float("-inf")
        self._good: dict[str, tuple[float, WorkerIdentity]] = {}
        self._made: set[str] = set()

    def mac(self, namespace: str, name: str, owner_uid: str, pool_hash: str) -> str:
        """The annotation by which a later operator knows that this one made the Pod."""
        message = mac_message(namespace, name, owner_uid, pool_hash)
        return hmac.new(self._mac_key, message, "sha256").hexdigest()

    def made(self, uid: str) -> None:
        """Remember that the operator made this Pod."""
        self._made.add(uid)

    def forget(self, uid: str) -> None:
        """The Pod is gone: its tokens are good no more."""
        self._made.discard(uid)
        for token in [t for t, (_, who) in self._good.items() if who.pod_uid == uid]:
            del self._good[token]

    async def authenticate(self, headers: Mapping[str, str]) -> WorkerIdentity:
        """Say who sent these headers.

        Raises:
            Unauthorized: no token, a bad one, or a Pod that is not a worker of ours any more.
        """
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("no bearer token")
        known = self._good.get(token)
        if known is not None and known[0] > self._now():
            self._alive(known[1].pod_uid)
            return known[1]
        claims = await self._claims(token)
        identity = self._identity(claims)
        self._good[token] = (float(claims["exp"]), identity)
        if len(self._good) > 20_000:
            now = self._now()
            self._good = {t: entry for t, entry in self._good.items() if entry[0] > now}
        return identity

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            kid = str(jwt.get_unverified_header(token).get("kid") or "")
            key = await self._key(kid)
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key,
                algorithms=["RS256", "ES256", "ES384", "RS384", "RS512"],
                audience=self._audience,
                options={"require": ["exp", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"bad token: {error}") from None
        return claims

    async def _key(self, kid: str) -> Any:
        age = self._now() - self._keys_read
        if age > KEYS_SECONDS or (kid not in self._keys and age > REFRESH_SECONDS):
            found = await self._read_keys()
            self._keys_read = self._now()
            self._keys = {
                entry.get("kid", ""): jwt.PyJWK.from_dict(dict(entry)).key
                for entry in found.get("keys") or ()
            }
        try:
            return self._keys[kid]
        except KeyError:
            raise Unauthorized(
                "the token is signed by a key that the cluster does not publish"
            ) from None

    def _identity(self, claims: Mapping[str, Any]) -> WorkerIdentity:
        bound = claims.get("kubernetes.io") or {}
        uid = str((bound.get("pod") or {}).get("uid") or "")
        fact = self._alive(uid)
        if fact.namespace != bound.get("namespace"):
            raise Unauthorized("the token's namespace is not its Pod's")
        if uid not in self._made:
            expected = self.mac(fact.namespace, fact.name, fact.owner_uid, fact.pool)
            if not hmac.compare_digest(expected, fact.mac):
                raise Unauthorized(
                    f"Pod {fact.namespace}/{fact.name} was not made by this operator"
                )
            self._made.add(uid)
        return WorkerIdentity(
            pod_uid=uid,
            pod=fact.name,
            namespace=fact.namespace,
            node=fact.node or str((bound.get("node") or {}).get("name") or ""),
            pool=pool_key(fact.namespace, fact.pool),
        )

    def _alive(self, uid: str) -> PodFact:
        fact = self._cache.pod(uid)
        if fact is None:
            raise Unauthorized(f"no Pod of ours has the uid {uid or '(none)'}")
        if fact.deleting:
            raise Unauthorized(f"Pod {fact.namespace}/{fact.name} is being deleted")
        return fact
