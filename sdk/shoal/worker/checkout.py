"""Checks a git repository out at one commit, for all workers.

git and ssh are the image's, else Debian's, which are then unpacked for the time of the build. What
opens a private repository comes in environment variables, from the Secret that the Deployment
names; it is given to the repository's own host only, and a host whose key is not known is not
talked to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from . import debian
from .environment import offer
from .tools import BuildFailed, run

PREFIX = "SHOAL_GIT_"
"""Begins the variables that hold what is in the Secret."""


def check_out(
    git: dict[str, Any], target: str, known_hosts: Sequence[str], sources: Sequence[str]
) -> str:
    """Fill the folder `target` with the repository's files, without its history; return the commit.

    `git` has ``url``, and ``branch`` or ``commit``; its submodules come along. `known_hosts` are
    lines as ssh reads them, `sources` lines of a sources.list.

    Raises:
        BuildFailed: with git's words.
    """
    secrets = {
        name[len(PREFIX) :]: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(PREFIX)
    }
    if git.get("secretName") and not secrets:
        raise BuildFailed(
            f"secrets/{git['secretName']} does not exist in this namespace, or has none of "
            "username, password, ssh-privatekey, known_hosts and ca.crt"
        )
    offer_git(sources, ssh=not git["url"].startswith("http"))
    with tempfile.TemporaryDirectory(dir=os.environ["SHOAL_SCRATCH"]) as work:
        _clone(git, target, _variables(git["url"], secrets, known_hosts, work))
    found = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=target, check=True, capture_output=True, text=True
    )
    commit = found.stdout.strip()
    _forget_history(target)
    print(f"checked out: {git['url']} at {commit}", flush=True)
    return commit


def offer_git(sources: Sequence[str], *, ssh: bool = False) -> None:
    """Have git, and ssh where it is needed, on the PATH of this process.

    Raises:
        BuildFailed: the image has none, and Debian's can't be had.
    """
    needed = {"git": "git", **({"ssh": "openssh-client"} if ssh else {})}
    missing = [package for program, package in needed.items() if shutil.which(program) is None]
    if missing:
        folder = os.path.join(os.environ["SHOAL_SCRATCH"], "tools")
        debian.install(missing, sources, folder)
        offer(folder)


def _clone(git: dict[str, Any], target: str, variables: dict[str, str]) -> None:
    _fetch(git, target, variables, "--filter=blob:none")
    try:
        _fill(git, target, variables)
    except BuildFailed:
        # a server may offer a history without files, and then refuse to give the files
        shutil.rmtree(target)
        _fetch(git, target, variables)
        _fill(git, target, variables)


def _fetch(git: dict[str, Any], target: str, variables: dict[str, str], *how: str) -> None:
    """Fetch the history; the commit is part of it then."""
    commit = git.get("commit") or ""
    branch = () if commit else (f"--branch={git['branch']}", "--single-branch")
    options = ("--quiet", "--no-checkout", *how, *branch)
    run("git", "clone", *options, "--", git["url"], target, **variables)
    if commit and not _has(target, commit):
        # of no branch; a server that can gives it
        run("git", "fetch", "--quiet", "origin", commit, folder=target, **variables)


def _fill(git: dict[str, Any], target: str, variables: dict[str, str]) -> None:
    commit = git.get("commit") or "HEAD"
    run("git", "checkout", "--quiet", "--detach", commit, "--", folder=target, **variables)
    if os.path.exists(os.path.join(target, ".gitmodules")):
        deep = ("submodule", "update", "--quiet", "--init", "--recursive")
        run("git", *deep, folder=target, **variables)


def _has(folder: str, commit: str) -> bool:
    asked = ("git", "cat-file", "-e", f"{commit}^{{commit}}")
    environment = dict(os.environ, GIT_NO_LAZY_FETCH="1")
    return not subprocess.run(asked, cwd=folder, env=environment, capture_output=True).returncode


def _forget_history(target: str) -> None:
    """Delete what only git reads, in the submodules too: nobody pulls there."""
    for folder, folders, files in os.walk(target):
        if ".git" in files:
            os.remove(os.path.join(folder, ".git"))
        if ".git" in folders:
            folders.remove(".git")
            shutil.rmtree(os.path.join(folder, ".git"))


def _variables(
    url: str, secrets: dict[str, str], known_hosts: Sequence[str], work: str
) -> dict[str, str]:
    """Return the environment of git: nothing of it is asked for at a terminal."""

    def write(name: str, text: str) -> str:
        path = os.path.join(work, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text if text.endswith("\n") else text + "\n")
        return path

    hosts = "\n".join([*secrets.get("KNOWN_HOSTS", "").splitlines(), *known_hosts])
    ssh = {
        "UserKnownHostsFile": write("known_hosts", hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "15",
    }
    if "PRIVATE_KEY" in secrets:
        ssh["IdentityFile"] = write("key", secrets["PRIVATE_KEY"])
    settings = {}
    if "CA" in secrets:
        settings["http.sslCAInfo"] = write("ca.crt", secrets["CA"])
    variables = {
        "HOME": work,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_TEMPLATE_DIR": "",
        "GIT_ALLOW_PROTOCOL": "http:https:ssh",
        "GIT_SSH_COMMAND": " ".join(
            ["ssh", *(f"-o {name}={value}" for name, value in ssh.items())]
        ),
    }
    if "PASSWORD" in secrets:
        host = urlsplit(url)
        settings[f"credential.{host.scheme}://{host.netloc}.helper"] = (
            '!f() { test "$1" = get && echo "username=$SHOAL_USERNAME" && '
            'echo "password=$SHOAL_PASSWORD"; }; f'
        )
        variables["SHOAL_USERNAME"] = secrets.get("USERNAME") or "git"
        variables["SHOAL_PASSWORD"] = secrets["PASSWORD"]
    variables["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
