"""Worker Pods: restricted, without credentials, sized, named once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shoal_operator.observe import pod_fact
from shoal_operator.pods import Worker, direct_pod, pod_name, worker_pod
from shoal_operator.pools import Pool, Template, template
from shoal_operator.settings import Settings

WORKER = Worker(
    dispatcher="https://10.96.0.5:8443",
    authority="-----BEGIN CERTIFICATE-----",
    bundle_sha256="ab" * 32,
    bootstrap="print('hello')",
)


@pytest.fixture
def pool() -> Pool:
    return Pool(
        namespace="default",
        template=Template(
            image="python:3.11-slim",
            cpu="500m",
            cpu_limit="500m",
            memory="512Mi",
            variables=(("A", "$(B) $$"),),
            pull_secrets=("registry",),
            service_account="runner",
        ),
        owner_kind="Deployment",
        owner_name="shoal-0123456789ab",
        owner_uid="owner",
    )


@pytest.fixture
def pod(pool: Pool, settings: Settings) -> dict[str, Any]:
    return worker_pod(pool, "w-1", mac="mac", worker=WORKER, settings=settings)


def test_it_fits_the_restricted_standard(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    security = spec["securityContext"]
    container = spec["containers"][0]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert {next(iter(set(v) - {"name"})) for v in spec["volumes"]} <= {"emptyDir", "projected"}


def test_it_holds_no_credential_but_a_token_for_us(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    (token,) = [v["projected"] for v in spec["volumes"] if "projected" in v]
    assert [s["serviceAccountToken"]["audience"] for s in token["sources"]] == ["shoal:cluster"]
    assert "secretKeyRef" not in json.dumps(pod)


def test_requests_and_limits_are_the_same(pod: dict[str, Any]) -> None:
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "500m", "memory": "512Mi"}


def test_a_users_text_arrives_as_it_was_written(pod: dict[str, Any]) -> None:
    environment = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert environment["A"] == "$$(B) $$$$"


def test_a_user_can_not_replace_what_the_worker_needs(pool: Pool, settings: Settings) -> None:
    evil = Pool(
        namespace="default",
        template=Template(image="i", variables=(("SHOAL_DISPATCHER", "https://evil"),)),
        owner_kind="Job",
        owner_name="x",
        owner_uid="u",
    )
    made = worker_pod(evil, "w", mac="", worker=WORKER, settings=settings)
    environment = {e["name"]: e.get("value") for e in made["spec"]["containers"][0]["env"]}
    assert environment["SHOAL_DISPATCHER"] == WORKER.dispatcher


SPEC = {
    "environmentVariables": [
        {"name": "PLAIN", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}},
        {
            "name": "MODE",
            "valueFrom": {"configMapKeyRef": {"name": "modes", "key": "m", "optional": True}},
        },
    ],
    "envFrom": [
        {"secretRef": {"name": "login"}},
        {"prefix": "DB_", "configMapRef": {"name": "db", "optional": True}},
    ],
}


def test_variables_are_referred_to_as_pods_do(pool: Pool, settings: Settings) -> None:
    referring = replace(pool, template=template(SPEC, settings))
    worker = worker_pod(referring, "w", mac="", worker=WORKER, settings=settings)
    direct = direct_pod(referring, "d", ["true"], seconds=None, settings=settings)
    for pod in (worker, direct):
        container = pod["spec"]["containers"][0]
        found = {e["name"]: e for e in container["env"]}
        assert found["PLAIN"] == {"name": "PLAIN", "value": "1"}
        assert found["TOKEN"]["valueFrom"] == {
            "secretKeyRef": {"name": "login", "key": "token", "optional": False}
        }
        assert found["MODE"]["valueFrom"] == {
            "configMapKeyRef": {"name": "modes", "key": "m", "optional": True}
        }
        assert container["envFrom"] == [
            {"secretRef": {"name": "login", "optional": False}},
            {"prefix": "DB_", "configMapRef": {"name": "db", "optional": True}},
        ]


def test_workers_that_see_other_secrets_are_other_workers(settings: Settings) -> None:
    def hash_with(**changed: Any) -> str:
        return template({**SPEC, **changed}, settings).hash

    one = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}}
    two = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "other"}}}
    hashes = [
        hash_with(),
        hash_with(environmentVariables=[one]),
        hash_with(environmentVariables=[two]),
        hash_with(envFrom=[{"secretRef": {"name": "login"}}]),
        hash_with(envFrom=[{"configMapRef": {"name": "login"}}]),
        hash_with(envFrom=[{"prefix": "A_", "secretRef": {"name": "login"}}]),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_with() == hash_with()


def test_labels_say_whose_it_is_and_facts_read_them_back(pod: dict[str, Any], pool: Pool) -> None:
    assert pod["metadata"]["labels"]["shoal.dev/deployment"] == pool.owner_name
    pod["metadata"]["uid"] = "u1"
    fact = pod_fact(pod)
    assert (fact.pool, fact.owner_uid, fact.mac) == (pool.hash, "owner", "mac")
    assert fact.alive


def test_a_direct_pod_runs_the_command_and_nothing_else(pool: Pool, settings: Settings) -> None:
    made = direct_pod(pool, "d", ["sh", "-c", "echo $HOME"], seconds=None, settings=settings)
    container = made["spec"]["containers"][0]
    assert container["command"] == ["sh", "-c", "echo $$HOME"]
    assert "SHOAL_TOKEN_FILE" not in json.dumps(made)
    assert "activeDeadlineSeconds" not in made["spec"]


def test_the_kubelet_ends_a_direct_pod_in_time(pool: Pool, settings: Settings) -> None:
    made = direct_pod(pool, "d", ["sleep", "9"], seconds=5, settings=settings)
    assert made["spec"]["activeDeadlineSeconds"] == 5


def test_names_differ_by_pool_epoch_and_number(pool: Pool) -> None:
    names = {pod_name(pool, epoch, number) for epoch in (1, 2, 11) for number in (1, 2, 11)}
    assert len(names) == 9
    assert all(len(name) <= 253 for name in names)
