"""What is made of a secret's text: logins for registries and git. No error shows any of it."""

from __future__ import annotations

import base64
import json

import pytest

from shoal.errors import ConfigurationError
from shoal.secret_payloads import DOCKER_HUB, git_data, pull_data, registry_of

LOGIN = json.dumps({"username": "me", "password": "p4ss:w0rd"})
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("python", DOCKER_HUB),
        ("team/python", DOCKER_HUB),
        ("docker.io/team/python", DOCKER_HUB),
        ("registry.example.com/team/python", "registry.example.com"),
        ("registry:5000/python", "registry:5000"),
        ("localhost/python", "localhost"),
        ("1234.dkr.ecr.eu-west-1.amazonaws.com/a/b/c", "1234.dkr.ecr.eu-west-1.amazonaws.com"),
    ],
)
def test_the_registry_is_found_as_docker_finds_it(repository: str, registry: str) -> None:
    assert registry_of(repository) == registry


def test_a_login_opens_the_registry_of_an_image() -> None:
    made = pull_data(LOGIN, "registry.example.com/team/python", "it")
    assert made.type == "kubernetes.io/dockerconfigjson"
    raw = base64.b64decode(made.encoded()[".dockerconfigjson"])
    login = json.loads(raw)["auths"]["registry.example.com"]
    assert (login["username"], login["password"]) == ("me", "p4ss:w0rd")
    assert base64.b64decode(login["auth"]) == b"me:p4ss:w0rd"


def test_a_login_opens_git_over_https() -> None:
    made = git_data(LOGIN, "it", ssh=False)
    assert made.type == "kubernetes.io/basic-auth"
    assert made.data == {"username": "me", "password": "p4ss:w0rd"}
    text = json.dumps({**json.loads(LOGIN), "ca_certificate": "PEM"})
    assert git_data(text, "it", ssh=False).data["ca.crt"] == "PEM"


@pytest.mark.parametrize("text", [KEY, f"\n{KEY}\n\n", json.dumps({"private_key": KEY})])
def test_a_key_opens_git_over_ssh(text: str) -> None:
    made = git_data(text, "it", ssh=True)
    assert made.type == "kubernetes.io/ssh-auth"
    assert made.data == {"ssh-privatekey": KEY + "\n"}


def test_known_hosts_go_along_with_a_key() -> None:
    text = json.dumps({"private_key": KEY, "known_hosts": "example.com ssh-ed25519 AAAA"})
    assert git_data(text, "it", ssh=True).data["known_hosts"] == "example.com ssh-ed25519 AAAA"


@pytest.mark.parametrize(
    "text",
    [
        "p4ss:w0rd",
        '"p4ss:w0rd"',
        '["p4ss:w0rd"]',
        '{"user": "me", "password": "p4ss:w0rd"}',
        '{"username": "me", "password": ""}',
        '{"username": 5, "password": "p4ss:w0rd"}',
        '{"private_key": "p4ss:w0rd"}',
        '{"username": "me", "password": "p4ss:w0rd", "private_key": 5, "known_hosts": 5}',
    ],
)
def test_what_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Secret\(x\) must be a private key") as refused:
        git_data(text, "Secret(x)", ssh=True)
    assert "p4ss" not in str(refused.value)
    if "private_key" in text and "username" in text:
        return
    for of_login in (
        lambda: pull_data(text, "python", "Secret(x)"),
        lambda: git_data(text, "Secret(x)", ssh=False),
    ):
        with pytest.raises(ConfigurationError, match=r"Secret\(x\) must be JSON") as refused:
            of_login()
        assert "p4ss" not in str(refused.value)


def test_the_keys_that_are_there_are_named() -> None:
    with pytest.raises(ConfigurationError, match="it is JSON with the keys user, pass"):
        pull_data('{"user": "me", "pass": "x"}', "python", "it")


def test_the_text_is_in_no_representation() -> None:
    assert "p4ss" not in repr(pull_data(LOGIN, "python", "it"))
