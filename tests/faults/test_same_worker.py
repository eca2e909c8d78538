"""An operator that was started again serves the worker whose digest stands in the Pods already."""

from __future__ import annotations

import subprocess
import sys

BUSY = "import sys; [sys.intern(chr(code)) for code in range(256)]"
"""What a process may have done before: some name of one letter or sign was looked up."""


def digest(before: str) -> str:
    program = f"{before}\nfrom shoal import bundle\nprint(bundle.build()[1])"
    words = [sys.executable, "-c", program]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_workers_zip_depends_on_its_sources_alone() -> None:
    assert digest("") == digest(BUSY)
