"""Runs the tools of a build: what they say is the Job's output, how they fail is its error."""

from __future__ import annotations

import os
import subprocess
import sys

#: A failure's message ends with so many of the tool's last lines.
LAST_LINES = 20


class BuildFailed(Exception):
    """The tool could not make what was asked for; the message is its last lines."""


def run(*argv: str, hint: str = "", folder: str | None = None, **variables: str) -> None:
    """Run a tool in `folder`, with more environment variables; raise what it said last if it fails.

    `hint` is added where it could not fetch something.

    Raises:
        BuildFailed: it ended with another exit code than 0.
        FileNotFoundError: there is no such program, or it can't run on this system.
    """
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=dict(os.environ, NO_COLOR="1", **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    last: list[str] = []
    with process:
        assert process.stdout is not None
        for text in process.stdout:
            sys.stdout.write(text)
            last = [*last, text.rstrip()][-LAST_LINES:]
    if hint and any("Failed to fetch" in text for text in last):
        last.append(hint)
    if process.returncode != 0:
        raise BuildFailed("\n".join(last) or f"{argv[0]} ended with exit code {process.returncode}")
