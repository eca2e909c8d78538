"""What opens a repository is given to git alone, for its own host, whatever is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.worker import checkout
from shoal.worker.tools import BuildFailed

PASSWORD = "a\\nb\\\\c $HOME `id` 'x' \"y\" %s"


def test_secrets_are_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_GIT_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOAL_GIT_USERNAME", "me")
    assert checkout.take_secrets() == {"PASSWORD": PASSWORD, "USERNAME": "me"}
    assert not [name for name in os.environ if name.startswith("SHOAL_GIT_")]


def credentials(variables: dict[str, str], host: str) -> str:
    """What git would say to a host."""
    done = subprocess.run(
        ["git", "credential", "fill"],
        input=f"protocol=https\nhost={host}\n\n",
        env={**variables, "PATH": os.environ["PATH"], "GIT_ASKPASS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_password_reaches_its_own_host_as_it_is(tmp_path: Path) -> None:
    url = "https://git.example.com:8443/org/repo"
    secrets = {"USERNAME": "me", "PASSWORD": PASSWORD, "CA": "a certificate"}
    variables = checkout._variables(url, secrets, [], str(tmp_path))
    told = credentials(variables, "git.example.com:8443").splitlines()
    assert "username=me" in told and f"password={PASSWORD}" in told
    assert "password=" not in credentials(variables, "other.example.com")
    settings = [value for name, value in variables.items() if name.startswith("GIT_CONFIG_KEY")]
    assert "http.https://git.example.com:8443.sslCAInfo" in settings


@pytest.mark.parametrize(
    "url", ["git@git.example.com:org/repo", "ssh://git@git.example.com:2222/org/repo"]
)
def test_a_key_is_shown_to_its_own_host_and_strangers_are_not_talked_to(
    tmp_path: Path, url: str
) -> None:
    secrets = {"PRIVATE_KEY": "a key", "KNOWN_HOSTS": "ours ssh-ed25519 A"}
    variables = checkout._variables(url, secrets, ["theirs ssh-ed25519 B"], str(tmp_path))
    assert (tmp_path / "known_hosts").read_text() == "ours ssh-ed25519 A\n"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

    def settings(host: str) -> list[str]:
        words = [*variables["GIT_SSH_COMMAND"].split(), "-G", host]
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return found.splitlines()

    assert f"identityfile {tmp_path}/key" in settings("git.example.com")
    assert f"identityfile {tmp_path}/key" not in settings("other.example.com")
    assert "stricthostkeychecking true" in settings("other.example.com")


def test_a_lost_connection_is_made_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "WAITS", (0.0, 0.0))
    asked: list[str] = []

    def run(*argv: str, **_: object) -> None:
        asked.append(argv[1])
        if argv[1] == "clone":
            raise BuildFailed(words[len(asked) - 1])

    monkeypatch.setattr(checkout, "run", run)
    git = {"url": "https://example.com/x", "branch": "main"}
    words = ["error: RPC failed; curl 56", "fatal: early EOF", "Remote branch main not found"]
    with pytest.raises(BuildFailed, match="not found"):
        checkout._clone(git, str(tmp_path / "source"), {})
    assert len(asked) == 3
    asked.clear()
    words = ["Permission denied (publickey)"]
    with pytest.raises(BuildFailed, match="denied"):
        checkout._clone(git, str(tmp_path / "source"), {})
    assert asked == ["clone"]


@pytest.mark.parametrize("hides", [True, False])
def test_nobody_reads_the_environment_of_who_hides_it(hides: bool) -> None:
    code = f"""
import ctypes, os, sys
from shoal.worker.processes import hide_environment
if os.getuid() == 0:
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # which changing the user has set to 0
if {hides}:
    hide_environment()
child = os.fork()
if not child:
    try:
        text = open("/proc/%d/environ" % os.getppid()).read()
    except PermissionError:
        text = "hidden"
    print(text, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(checkout.__file__).parents[2]), "SECRET": "open"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("hidden" in done.stdout) == hides
    assert ("open" in done.stdout) != hides
