"""Variables from Secrets and ConfigMaps: the code sees them, and one that is missing is named."""

from __future__ import annotations

from typing import Any

import pytest
from namespaces import Place, condition

import shoal
from shoal.kube import CONFIGMAPS, SECRETS


async def secret(place: Place, name: str, **texts: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts}
    await place.api.create(SECRETS, body, place.namespace)


async def test_the_code_sees_what_stands_there(user: Place) -> None:
    def variables(*names: str) -> dict[str, str | None]:
        import os

        return {name: os.environ.get(name) for name in names}

    await secret(user, "login", token="s3cr3t", SHOAL_DISPATCHER="https://evil", PASSWORD="p$(A)")
    body = {"metadata": {"name": "modes"}, "data": {"mode": "fast"}}
    await user.api.create(CONFIGMAPS, body, user.namespace)
    deployment = shoal.Deployment(
        environment_variables={
            "TOKEN": shoal.SecretKeyRef("login", "token"),
            "MODE": shoal.ConfigMapKeyRef("modes", "mode"),
            "NONE": shoal.SecretKeyRef("login", "nothing", optional=True),
            "PLAIN": "$(MODE)",
        },
        env_from=[shoal.SecretRef("login"), shoal.ConfigMapRef("modes", prefix="ALL_")],
    )
    names = ["TOKEN", "MODE", "NONE", "PLAIN", "PASSWORD", "ALL_mode"]
    assert await shoal.run_function(variables, user.host(), deployment=deployment, args=names) == {
        "TOKEN": "s3cr3t",
        "MODE": "fast",
        "NONE": None,
        "PLAIN": "$(MODE)",
        "PASSWORD": "p$(A)",
        "ALL_mode": "fast",
    }


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            {
                "environmentVariables": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}
                ]
            },
            'secret "late" not found',
        ),
        ({"envFrom": [{"configMapRef": {"name": "gone"}}]}, 'configmap "gone" not found'),
    ],
    ids=["secret", "configmap"],
)
async def test_what_is_missing_is_named(place: Place, where: dict[str, Any], words: str) -> None:
    spec = {"function": {"name": "math.gcd", "args": [12, 18]}, "deployment": where}
    await place.apply("Job", "waits", spec)
    status = await place.until(
        "Job",
        "waits",
        # the kubelet may say first that it has not looked yet
        lambda s: words in condition(s, "WorkersReady").get("message", ""),
    )
    assert condition(status, "WorkersReady")["reason"] == "CreateContainerConfigError"
    if "late" in words:
        await secret(place, "late", k="there")
    else:
        body = {"metadata": {"name": "gone"}, "data": {"k": "there"}}
        await place.api.create(CONFIGMAPS, body, place.namespace)
    assert (await place.end("Job", "waits"))["result"] == 6
