"""Secrets that submissions make of a cloud's: made before the job, owned by it, and taken back."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

import shoal
from shoal import cloud_secrets, manifests, submission
from shoal.cloud_secrets import CloudText
from shoal.credentials import Credentials
from shoal.discovery import Place
from shoal.errors import ApiError, ConfigurationError
from shoal.kube import JOBS, SECRETS, Client, Resource
from shoal.machinery import Call

Body = dict[str, Any]
LOGIN = json.dumps({"username": "me", "password": "s3cr3t"})
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"


class Api:
    """Objects by plural and name, with what an API server does about versions and owners."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Body] = {}
        self.done: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}
        self._version = 0

    def _begin(self, verb: str, resource: Resource) -> None:
        what = f"{verb} {resource.plural}"
        self.done.append(what)
        self.before.pop(what, lambda: None)()

    def put(self, resource: Resource, body: Body) -> Body:
        self._version += 1
        body = copy.deepcopy(body)
        meta = body["metadata"]
        meta.setdefault("uid", f"uid-{self._version}")
        meta["resourceVersion"] = str(self._version)
        self.objects[resource.plural, meta["name"]] = body
        return copy.deepcopy(body)

    async def create(self, resource: Resource, body: Body, namespace: str) -> Body:
        self._begin("create", resource)
        if (resource.plural, body["metadata"]["name"]) in self.objects:
            raise ApiError(409, "AlreadyExists", "it is there")
        return self.put(resource, body)

    async def patch(
        self, resource: Resource, name: str, body: list[Body], namespace: str, *, style: str
    ) -> Body:
        self._begin("patch", resource)
        assert style == "json"
        found = copy.deepcopy(self.objects.get((resource.plural, name)))
        if found is None:
            raise ApiError(404, "NotFound", "it is not there")
        meta = found["metadata"]
        for change in body:
            field, _, end = change["path"].removeprefix("/metadata/").partition("/")
            match change["op"], end:
                case "test", "":
                    fits = meta.get(field) == change["value"]
                case "add", "-":
                    fits = field in meta
                    meta[field] = [*meta.get(field, []), change["value"]]
                case "add", "":
                    fits = True
                    meta[field] = change["value"]
                case _:
                    fits = False
            if not fits:
                raise ApiError(422, "Invalid", "the patch does not fit")
        only_tests = all(change["op"] == "test" for change in body)
        return found if only_tests else self.put(resource, found)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        *,
        uid: str,
        resource_version: str | None = None,
    ) -> None:
        self._begin("delete", resource)
        found = self.objects.get((resource.plural, name))
        if found is None:
            return
        meta = found["metadata"]
        if meta["uid"] != uid or resource_version not in (None, meta["resourceVersion"]):
            raise ApiError(409, "Conflict", "it has changed")
        del self.objects[resource.plural, name]

    @property
    def secret(self) -> Body:
        """The only Secret."""
        (found,) = [body for (plural, _), body in self.objects.items() if plural == "secrets"]
        return found

    @property
    def owners(self) -> list[str]:
        """Names of the jobs that own it."""
        return [o["name"] for o in self.secret["metadata"].get("ownerReferences", [])]


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> dict[str, CloudText]:
    """Secrets of a cloud by name, in place of the cloud."""
    texts = {"login": CloudText("login-1", LOGIN), "key": CloudText("key-1", KEY)}
    monkeypatch.setattr(cloud_secrets, "read", lambda secret, vault: texts[secret.secret_name])
    return texts


def call(name: str = "one") -> Call:
    image = shoal.Deployment.container_image(
        "registry.example.com/python", "1", shoal.AwsSecret("login")
    )
    return Call(kind="command", name=name, argv=["true"], deployment=image)


async def submit(api: Api, name: str = "one") -> Body:
    async def ready() -> None:
        pass

    place = Place("n", "c", None, None)
    prepared = manifests.prepare(call(name), place)
    return await submission.submit(cast(Client, api), place, prepared, ready())


def fails(error: BaseException, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
    def fail() -> None:
        then()
        raise error

    return fail


async def test_the_secret_is_there_before_the_job_and_the_job_owns_it(
    api: Api, cloud: dict[str, CloudText]
) -> None:
    made = await submit(api)
    assert api.done == ["create secrets", "create jobs", "patch secrets", "patch secrets"]
    named = made["spec"]["deployment"]["imagePullSecrets"]
    assert named == [{"name": api.secret["metadata"]["name"]}]
    assert api.secret["type"] == "kubernetes.io/dockerconfigjson"
    assert api.secret["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "shoal"}
    assert api.secret["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "shoal.dev/v1alpha1",
            "kind": "Job",
            "name": "one",
            "uid": made["metadata"]["uid"],
        }
    ]


async def test_jobs_share_it_and_each_owns_it(api: Api, cloud: dict[str, CloudText]) -> None:
    one, two = await submit(api, "one"), await submit(api, "two")
    assert one["spec"]["deployment"] == two["spec"]["deployment"]
    assert api.owners == ["one", "two"]


async def test_one_that_goes_meanwhile_is_made_again(api: Api, cloud: dict[str, CloudText]) -> None:
    await submit(api, "one")
    api.before["patch secrets"] = api.objects.clear
    await submit(api, "two")
    assert api.owners == ["two"]


async def test_one_that_another_submission_makes_again_is_joined(
    api: Api, cloud: dict[str, CloudText]
) -> None:
    name = (await submit(api, "one"))["spec"]["deployment"]["imagePullSecrets"][0]["name"]
    before = copy.deepcopy(api.secret)

    def gone() -> None:
        del api.objects["secrets", name]
        api.before["create secrets"] = lambda: api.put(SECRETS, before) and None

    api.before["patch secrets"] = gone
    await submit(api, "two")
    assert api.owners == ["one", "two"]


@pytest.mark.parametrize("verb", ["create jobs", "patch secrets"])
async def test_a_submission_that_fails_takes_it_back(
    api: Api, cloud: dict[str, CloudText], verb: str
) -> None:
    api.before[verb] = fails(ApiError(500, "InternalError", "no"))
    with pytest.raises(shoal.ShoalException, match="no"):
        await submit(api)
    assert not api.objects


async def test_what_a_controller_writes_into_it_does_not_keep_it(
    api: Api, cloud: dict[str, CloudText]
) -> None:
    def annotated() -> None:
        api.put(SECRETS, api.secret)

    def again() -> None:
        annotated()
        api.before["delete secrets"] = annotated

    api.before["create jobs"] = fails(ApiError(500, "InternalError", "no"), again)
    with pytest.raises(ApiError):
        await submit(api)
    assert not api.objects


async def test_so_does_one_that_is_interrupted(api: Api, cloud: dict[str, CloudText]) -> None:
    api.before["patch secrets"] = fails(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await submit(api)
    assert not api.objects


async def test_what_another_job_uses_by_then_stays(api: Api, cloud: dict[str, CloudText]) -> None:
    def adopted() -> None:
        body = copy.deepcopy(api.secret)
        body["metadata"]["ownerReferences"] = [{"name": "two", "uid": "2"}]
        api.put(SECRETS, body)

    api.before["create jobs"] = fails(ApiError(422, "Invalid", "no"), adopted)
    with pytest.raises(ConfigurationError):
        await submit(api)
    assert api.owners == ["two"]
    assert (JOBS.plural, "one") not in api.objects


@pytest.mark.parametrize("verb", ["create secrets", "patch secrets"])
async def test_who_may_not_is_told_what_to_ask_for(
    api: Api, cloud: dict[str, CloudText], verb: str
) -> None:
    api.before[verb] = fails(ApiError(403, "Forbidden", "no"))
    words = r"namespace n, as AwsSecret.*'login'.*examples/rbac/cloud-secrets\.yaml"
    with pytest.raises(ApiError, match=words):
        await submit(api)
    assert not api.objects


def test_the_name_follows_from_the_version_and_its_use(cloud: dict[str, CloudText]) -> None:
    def name(secret: str = "login", repository: str = "python") -> str:
        return Credentials().for_image(shoal.AwsSecret(secret), repository)

    first = name()
    cloud["login"] = CloudText("login-1", LOGIN.replace("s3cr3t", "other"))
    assert name() == first, "the name could be tried out against passwords"
    assert name(repository="team/python") == first
    assert name(repository="registry.example.com/python") != first
    cloud["login"] = CloudText("login-2", LOGIN)
    assert name() != first
    cloud["other"] = CloudText("other-1", LOGIN)
    assert name("other") != first


def test_a_secret_of_the_namespace_is_named_as_it_is() -> None:
    named = Credentials()
    assert named.for_image(shoal.KubernetesSecret("pull"), "python") == "pull"
    assert named.for_git(shoal.KubernetesSecret("key"), ssh=True) == "key"
    assert named.made == ()


def test_a_key_for_git_is_made(cloud: dict[str, CloudText]) -> None:
    named = Credentials()
    key = named.for_git(shoal.AzureSecret("key"), ssh=True)
    login = named.for_git(shoal.AwsSecret("login"), ssh=False)
    bodies = {made.name: made.body() for made in named.made}
    assert bodies[key]["type"] == "kubernetes.io/ssh-auth"
    assert bodies[login]["type"] == "kubernetes.io/basic-auth"
    assert named.for_git(shoal.AzureSecret("key"), ssh=True) == key
    assert len(named.made) == 2


def test_no_representation_shows_what_is_secret(cloud: dict[str, CloudText]) -> None:
    prepared = manifests.prepare(call(), None)
    assert prepared.secrets
    assert "s3cr3t" not in repr(prepared) and "s3cr3t" not in repr(prepared.model)
