"""What goes wrong, with what to do about it."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster can't be had or used; the message says why and what to do next."""


class MissingTool(ClusterError):
    """A program or a permission that this way of having a cluster stands on is not there."""


class CommandFailed(ClusterError):
    """A program that was run ended with an error; carries the end of what it printed."""

    def __init__(self, command: list[str], code: int, output: str) -> None:
        self.command = command
        self.code = code
        self.output = output
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"`{' '.join(command)}` ended with code {code}:\n{tail}")
