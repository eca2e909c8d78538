"""A second embedded cluster, in a network and mount namespace of its own.

It runs beside whatever cluster the machine has, shares only the built binaries and images with it,
and may be killed in any way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import folders

REPOSITORY = Path(__file__).resolve().parents[2]

PRIVATE_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers")


@dataclass(frozen=True)
class Machine:
    """A network of its own, held open by a process that does nothing."""

    cache: Path
    holder: int

    def run(
        self, *words: str, check: bool = True, given: str | None = None, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def command(self, *words: str) -> list[str]:
        """`words` on this machine, in the repository's root."""
        enter = ["nsenter", "-t", str(self.holder), "-n", "-m"]
        return [*enter, "env", "-C", str(REPOSITORY), *words]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOAL_")}
        path = f"{self.cache / 'bin'}{os.pathsep}{inherited['PATH']}"
        own = {"SHOAL_CACHE": str(self.cache), "SHOAL_CLUSTER": "embedded", "PATH": path}
        return {**inherited, **own, "KUBECONFIG": str(self.folders.kubeconfig)}

    @property
    def folders(self) -> folders.Folders:
        return folders.Folders(self.cache)

    def cluster(
        self, *words: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return self.run(
            "env",
            *(f"{name}={value}" for name, value in environment.items()),
            *(sys.executable, "-m", "cluster", *words),
            check=check,
        )

    def kubectl(self, *words: str, check: bool = True, given: str | None = None) -> str:
        return self.run("kubectl", *words, check=check, given=given).stdout

    def apply(self, *resources: dict[str, Any]) -> None:
        listing = {"apiVersion": "v1", "kind": "List", "items": list(resources)}
        self.kubectl("apply", "-f", "-", given=json.dumps(listing))

    def get(self, *words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return answer

    def processes(self) -> dict[int, str]:
        """Everything that runs in this network, but the holder."""
        network = os.readlink(f"/proc/{self.holder}/ns/net")
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "ns/net") == network:
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        found.pop(self.holder, None)
        return found


@contextmanager
def hold() -> Iterator[int]:
    """The pid of a process in a new network and mount namespace."""
    new = ["unshare", "--net", "--mount", "--propagation", "private"]
    with subprocess.Popen([*new, "sh", "-c", HOLD], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


HOLD = (
    "ip link set lo up; for f in "
    + " ".join(PRIVATE_FOLDERS)
    + "; do [ -d $f ] && mount -t tmpfs tmpfs $f; done; echo ready; exec sleep infinity"
)
