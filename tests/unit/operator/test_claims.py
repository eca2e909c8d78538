"""Which release serves a namespace, where two come at the same moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parts import Api, Body

from shoal.errors import ApiError
from shoal.kube import Resource
from shoal_operator import names
from shoal_operator.discovery import Claims, config_map
from shoal_operator.settings import Settings


class Race(Api):
    """Somebody else creates the ConfigMap between our look and our create."""

    def __init__(self, theirs: Body) -> None:
        super().__init__()
        self._theirs = theirs

    async def create(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        await super().create(resource, self._theirs, namespace)
        raise ApiError(409, "AlreadyExists", "it is there")


async def test_who_was_faster_serves_the_namespace(settings: Settings) -> None:
    theirs: dict[str, Any] = config_map(settings)
    theirs["metadata"]["labels"] |= {names.INSTANCE: "another", names.CLAIM: "named"}
    claims = Claims(Race(theirs), settings)  # type: ignore[arg-type]
    assert not await claims.look("n")
    assert not claims.is_ours("n")


def test_users_are_told_of_vault_and_store(settings: Settings) -> None:
    changed = replace(settings, azure_vault="team", secret_store="SecretStore/aws")
    told = config_map(changed)["data"]
    assert (told["azureVault"], told["secretStore"]) == ("team", "SecretStore/aws")
