"""What the text of a cloud's secret means, and the Kubernetes Secret that is made of it.

A secret for images or for git over HTTPS is JSON with `username` and `password`; one for git over
SSH is JSON with `private_key`, or the private key itself. No error shows any of the text.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from shoal.errors import ConfigurationError

DOCKER_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class SecretData:
    """Type and data of a Kubernetes Secret, not yet in base64."""

    type: str
    data: dict[str, str] = field(repr=False)

    def encoded(self) -> dict[str, str]:
        """Return the data as a Secret has it."""
        return {key: base64.b64encode(text.encode()).decode() for key, text in self.data.items()}


def pull_data(text: str, repository: str, of: str) -> SecretData:
    """Return what lets the kubelet pull `repository`; `of` names the secret in errors."""
    username, password = _login(_fields(text), of, "images")
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    login = {"username": username, "password": password, "auth": auth}
    config = json.dumps({"auths": {registry_of(repository): login}})
    return SecretData("kubernetes.io/dockerconfigjson", {".dockerconfigjson": config})


def git_data(text: str, of: str, *, ssh: bool) -> SecretData:
    """Return what opens a git repository: keys as kubernetes.io/ssh-auth and basic-auth have them.

    `known_hosts` goes along with a key, and `ca_certificate`, as `ca.crt`, with a password.
    """
    if not ssh:
        fields = _fields(text)
        username, password = _login(fields, of, "git over HTTPS")
        data = {"username": username, "password": password}
        return SecretData(
            "kubernetes.io/basic-auth", data | _further(fields, of, "ca_certificate", "ca.crt")
        )
    if "PRIVATE KEY-----" in text and not text.lstrip().startswith("{"):
        return SecretData("kubernetes.io/ssh-auth", {"ssh-privatekey": _key(text)})
    fields = _fields(text)
    key = fields.get("private_key")
    if not isinstance(key, str) or "PRIVATE KEY-----" not in key:
        raise ConfigurationError(
            f"{of} must be a private key (PEM or OpenSSH), or JSON with the key private_key, to be "
            f"used for git over SSH; {_shape(fields)}"
        )
    data = {"ssh-privatekey": _key(key)}
    return SecretData(
        "kubernetes.io/ssh-auth", data | _further(fields, of, "known_hosts", "known_hosts")
    )


def registry_of(repository: str) -> str:
    """Return the registry of an image as Docker finds it: the host before the first slash.

    Without one it is Docker Hub, by the name that `docker login` gives to it.
    """
    host, slash, _ = repository.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        return DOCKER_HUB
    return DOCKER_HUB if host in ("docker.io", "index.docker.io") else host


def _fields(text: str) -> dict[str, object]:
    """Return the fields of a JSON object; none of anything else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _login(fields: dict[str, object], of: str, purpose: str) -> tuple[str, str]:
    username, password = fields.get("username"), fields.get("password")
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        raise ConfigurationError(
            f'{of} must be JSON such as {{"username": "...", "password": "..."}} to be used for '
            f"{purpose}; {_shape(fields)}"
        )
    return username, password


def _further(fields: dict[str, object], of: str, name: str, key: str) -> dict[str, str]:
    found = fields.get(name)
    if found is None:
        return {}
    if not isinstance(found, str):
        raise ConfigurationError(f"{of} has a {name} that is no text")
    return {key: found}


def _key(text: str) -> str:
    """Return a private key as ssh reads it: with a line end behind its last line."""
    return text.strip() + "\n"


def _shape(fields: dict[str, object]) -> str:
    return f"it is JSON with the keys {', '.join(fields)}" if fields else "it is no JSON object"
