"""A shell for the snippets: the repository's root, and a kubeconfig with a namespace of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snippets import ROOT


@dataclass(frozen=True)
class Shell:
    """Runs programs in the repository's root, with a kubeconfig whose namespace is a fresh one."""

    namespace: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str | Path, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=ROOT,
            env={**os.environ, **self.variables},
        )
        assert done.returncode == 0 or not check, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout
