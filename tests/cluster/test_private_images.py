"""Images of a registry with a password, which stands in AWS Secrets Manager (moto in its place)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from chaos import run
from cluster.layout import NODES
from moto import mock_aws
from namespaces import Place, condition
from registry import Registry, serving

import shoal
from cluster import folders, nodes
from shoal.errors import ApiError
from shoal.kube import DEPLOYMENTS, JOBS, SECRETS

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """A registry that both nodes reach; what they pulled is forgotten after the test."""
    lines = (await run(sys.executable, "-m", "cluster", "images")).splitlines()
    (archive,) = [line.split()[-1] for line in lines if line.split()[0] == PYTHON]
    with serving(Path(archive)) as made:
        yield made
    places = folders.from_environment()
    for node in NODES:
        nodes.ctr(places, node, "images", "rm", f"{made.repository}:1")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield boto3.client("secretsmanager")


@pytest.fixture
def image(registry: Registry, aws: Any) -> shoal.Deployment:
    login = {"username": registry.username, "password": registry.password}
    aws.create_secret(Name="registry", SecretString=json.dumps(login))
    return shoal.Deployment.container_image(registry.repository, "1", shoal.AwsSecret("registry"))


async def made_secrets(place: Place) -> list[dict[str, Any]]:
    found = await place.api.list(
        SECRETS, place.namespace, label_selector="app.kubernetes.io/managed-by=shoal"
    )
    return list(found["items"])


async def until_gone(place: Place, name: str) -> None:
    watch = place.api.watch(SECRETS, place.namespace, name=name)
    async for event in watch:
        there = event.object["items"] if event.type == "LISTED" else [event.object]
        if event.type == "DELETED" or not there:
            break
    await watch.aclose()


async def test_an_image_is_pulled_with_a_secret_that_lives_as_long_as_its_jobs(
    user: Place, registry: Registry, image: shoal.Deployment
) -> None:
    for name in ("one", "two"):
        run_ = shoal.run_function(
            "math.gcd", user.host(), deployment=image, args=[12, 18], name=name
        )
        assert await run_ == 6
    assert registry.served[registry.username] > 0
    (pod,) = await user.pods()
    (secret,) = await made_secrets(user)
    secret_name = secret["metadata"]["name"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": secret_name}]
    assert {o["name"] for o in secret["metadata"]["ownerReferences"]} == {"one", "two"}

    await user.api.delete(JOBS, "one", user.namespace)
    await user.api.delete(JOBS, "two", user.namespace)
    await until_gone(user, secret_name)

    # its workers are still warm, and the next submission brings the Secret back
    third = shoal.run_function("math.gcd", user.host(), deployment=image, args=[4, 6], name="three")
    assert await third == 2
    assert [p["metadata"]["uid"] for p in await user.pods()] == [pod["metadata"]["uid"]]
    (again,) = await made_secrets(user)
    assert again["metadata"]["name"] == secret_name

    await user.api.delete(JOBS, "three", user.namespace)
    (deployment,) = (await user.api.list(DEPLOYMENTS, user.namespace))["items"]
    await user.api.delete(DEPLOYMENTS, deployment["metadata"]["name"], user.namespace)
    await until_gone(user, secret_name)
    await user.until_pods(lambda pods: not pods)


async def test_without_the_secret_it_is_refused(user: Place, registry: Registry) -> None:
    open_image = {"image": f"{registry.repository}:1"}
    spec = {"function": {"name": "math.gcd", "args": [12, 18]}, "deployment": open_image}
    await user.apply("Job", "refused", spec)
    status = await user.until(
        "Job", "refused", lambda s: condition(s, "WorkersReady").get("reason") == "ImagePullFailed"
    )
    assert "401" in condition(status, "WorkersReady")["message"]
    assert set(registry.served) == {""}


async def test_the_roles_of_examples_rbac_are_enough_and_user_alone_is_not(
    user: Place,
    registry: Registry,
    image: shoal.Deployment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = ("-n", user.namespace, "--kubeconfig", os.environ["KUBECONFIG"])
    await run("kubectl", "create", "serviceaccount", "shoal-user", *where)
    await run("kubectl", "apply", *where, "-f", str(EXAMPLES / "rbac" / "user.yaml"))
    config = yaml.safe_load(await run("kubectl", "config", "view", "--raw", "--minify"))
    token = (await run("kubectl", "create", "token", "shoal-user", *where)).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    config["contexts"][0]["name"] = "of-the-user"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    host = user.host(kube_config_context="of-the-user")

    with pytest.raises(ApiError, match=r"examples/rbac/cloud-secrets\.yaml"):
        await shoal.run_function("math.gcd", host, deployment=image, args=[12, 18])
    assert not await made_secrets(user)
    assert not (await user.api.list(JOBS, user.namespace))["items"]

    await run("kubectl", "apply", *where, "-f", str(EXAMPLES / "rbac" / "cloud-secrets.yaml"))
    assert await shoal.run_function("math.gcd", host, deployment=image, args=[12, 18]) == 6
    (secret,) = await made_secrets(user)
    assert len(secret["metadata"]["ownerReferences"]) == 1
