"""Checks a git repository out at one commit, for all workers.

git and ssh are the image's, else Debian's, which are then unpacked for the time of the build. What
opens a private repository comes in environment variables, from the Secret that the Deployment
names; it is taken out of them before anything else runs, and given to the repository's own host
only. A host whose key is not known is not talked to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from . import debian
from .environment import offer
from .tools import BuildFailed, run

SSH = (
    "GlobalKnownHostsFile /dev/null",
    "StrictHostKeyChecking yes",
    "BatchMode yes",
    "IdentitiesOnly yes",
    "ConnectTimeout 15",
)
#: Seconds before a lost connection is made again.
WAITS = (1.0, 5.0)
#: What a server says that offers a history without files, and then refuses to give the files.
_NO_FILES = re.compile(r"promisor remote|unadvertised object")
#: What git says of a connection that may be there the next time.
_LOST = re.compile(
    r"Connection (reset|timed out|refused)|early EOF|hung up unexpectedly|RPC failed|"
    r"Could not resolve|kex_exchange_identification"
)
PREFIX = "SHOAL_GIT_"
"""Begins the variables that hold what is in the Secret."""


def take_secrets() -> dict[str, str]:
    """Return what the Secret holds, and take it away from the programs that this process runs."""
    names = [name for name in os.environ if name.startswith(PREFIX)]
    return {name[len(PREFIX) :]: os.environ.pop(name) for name in names}


def check_out(
    git: dict[str, Any],
    secrets: dict[str, str],
    target: str,
    known_hosts: Sequence[str],
    sources: Sequence[str],
) -> str:
    """Fill the folder `target` with the repository's files, without its history; return the commit.

    `git` has ``url``, and ``branch`` or ``commit``; its submodules come along. `secrets` are those
    of `take_secrets`, `known_hosts` lines as ssh reads them where these have none, `sources` lines
    of a sources.list.

    Raises:
        BuildFailed: with git's words.
    """
    if git.get("secretName") and not secrets:
        raise BuildFailed(
            f"secrets/{git['secretName']} does not exist in this namespace, or has none of "
            "username, password, ssh-privatekey, known_hosts and ca.crt"
        )
    offer_git(sources, ssh=not git["url"].startswith("http"))
    with tempfile.TemporaryDirectory(dir=os.environ["SHOAL_SCRATCH"]) as work:
        try:
            _clone(git, target, _variables(git["url"], secrets, known_hosts, work))
        except BuildFailed as error:
            raise BuildFailed(f"{git['url']}: {error}{_remedy(str(error))}") from error
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
        print(f"the image has no {' and no '.join(missing)}: Debian's is fetched", flush=True)
        try:
            debian.install(missing, sources, folder, quiet=True)
        except BuildFailed as error:
            raise BuildFailed(
                f"{error}\nthe image has no {' and no '.join(missing)}, and Debian's can't be had: "
                "name such sources, or an image that has it"
            ) from error
        offer(folder)


def _clone(git: dict[str, Any], target: str, variables: dict[str, str]) -> None:
    _fetch_patiently(git, target, variables, "--filter=blob:none")
    try:
        _fill(git, target, variables)
    except BuildFailed as error:
        if not _NO_FILES.search(str(error)):
            raise
        _fetch_patiently(git, target, variables)
        _fill(git, target, variables)


def _remedy(said: str) -> str:
    if "could not read Username" in said:
        return "\nit is private: name a Secret that opens it (ssh_key_secret, secretName)"
    if "Host key verification failed" in said:
        return "\nits host's key is not known: put known_hosts into the Secret"
    return ""


def _fetch_patiently(
    git: dict[str, Any], target: str, variables: dict[str, str], *how: str
) -> None:
    for wait in (*WAITS, None):
        shutil.rmtree(target, ignore_errors=True)
        try:
            _fetch(git, target, variables, *how)
            return
        except BuildFailed as error:
            if wait is None or not _LOST.search(str(error)):
                raise
        time.sleep(wait)


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


def _ssh_host(url: str) -> str:
    """Return the host of a repository's URL, be it ssh://user@host:port/path or user@host:path."""
    if "://" in url:
        return urlsplit(url).hostname or ""
    return url.partition("@")[2].partition(":")[0]


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

    hosts = write("known_hosts", secrets.get("KNOWN_HOSTS") or "\n".join(known_hosts))
    ssh = [f"UserKnownHostsFile {hosts}", *SSH]
    if "PRIVATE_KEY" in secrets:
        key = write("key", secrets["PRIVATE_KEY"])
        ssh += [f"Host {_ssh_host(url)}", f"IdentityFile {key}"]
    configuration = write("ssh_config", "\n".join(ssh))
    settings, own = {}, f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    if "CA" in secrets:
        settings[f"http.{own}.sslCAInfo"] = write("ca.crt", secrets["CA"])
    variables = {
        "HOME": work,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_TEMPLATE_DIR": "",
        "GIT_ALLOW_PROTOCOL": "http:https:ssh",
        "GIT_SSH_COMMAND": f"ssh -F {configuration}",
    }
    if "PASSWORD" in secrets:
        settings[f"credential.{own}.helper"] = (
            '!f() { test "$1" = get && '
            'printf "username=%s\\npassword=%s\\n" "$SHOAL_USERNAME" "$SHOAL_PASSWORD"; }; f'
        )
        variables["SHOAL_USERNAME"] = secrets.get("USERNAME") or "git"
        variables["SHOAL_PASSWORD"] = secrets["PASSWORD"]
    variables["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
