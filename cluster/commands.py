"""Running other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.errors import CommandFailed, MissingTool

#: Debian keeps these out of an ordinary user's PATH.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find(program: str) -> str | None:
    """The program's path, or None where it is not on this machine."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_PATH])
    return shutil.which(program, path=path)


def require(program: str, remedy: str) -> str:
    """The program's path; raises MissingTool, which says the remedy."""
    found = find(program)
    if found is None:
        raise MissingTool(f"`{program}` is not on this machine: {remedy}")
    return found


def run(
    command: Sequence[object],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    given: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; words may be paths or numbers, stderr and stdout are both captured.

    Raises CommandFailed on a non-zero code, unless `check` is False.
    """
    words = [str(word) for word in command]
    program = find(words[0])
    if program is None:
        raise MissingTool(f"`{words[0]}` is not on this machine")
    done = subprocess.run(
        [program, *words[1:]],
        env={**os.environ, **(environment or {})},
        cwd=folder,
        input=given,
        stdin=None if given is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise CommandFailed(words, done.returncode, done.stdout + done.stderr)
    return done


def output(command: Sequence[object], *, timeout: float | None = None) -> str:
    """What the program printed; raises CommandFailed."""
    return run(command, timeout=timeout).stdout
