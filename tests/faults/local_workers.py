"""Worker processes for a dispatcher without a cluster: real ones, replaced when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from shoal import bundle

# They ask again sooner than on a cluster, so that a dispatcher's death costs no second.
START = """
import sys
sys.path.insert(0, sys.argv[1])
from _shoal_worker import agent, outbox
agent._RETRIES = outbox._RETRIES = (0.05, 0.1)
sys.exit(agent.main())
"""


class LocalWorkers:
    """Two worker processes; they outlive every dispatcher.

    For each that lives there is a file `workers/<name>` with its process's number.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._keepers: list[asyncio.Task[None]] = []
        self.started = 0

    async def __aenter__(self) -> Self:
        (self._folder / "worker.zip").write_bytes(bundle.build()[0])
        (self._folder / "workers").mkdir()
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(2)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            name, self.started = f"worker-{self.started}", self.started + 1
            process = await self._start(name)
            try:
                await process.wait()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
                (self._folder / "workers" / name).unlink(missing_ok=True)

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        scratch = self._folder / name
        scratch.mkdir()
        (scratch / "token").write_text(name)
        environment = {
            "SHOAL_DISPATCHER": f"http://127.0.0.1:{self._port}",
            "SHOAL_TOKEN_FILE": str(scratch / "token"),
            "SHOAL_SCRATCH": str(scratch),
            "SHOAL_LIBRARY": f"{self._folder}/worker.zip/lib",
            "SHOAL_TERMINATION_LOG": "",
        }
        with (self._folder / "workers.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", START, str(self._folder / "worker.zip")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=scratch,
                start_new_session=True,
                env=os.environ | environment,
            )
        (self._folder / "workers" / name).write_text(str(process.pid))
        return process
