"""An operator whose API server answers 409, 410, 429 or 500 now and then, or breaks off."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from .lives import Lives
from .release import Release
from .spoiler import Spoiler
from .stream import Stream

SECONDS = 120.0
"""So long it may take until every errand was done once."""
LEAST = 3
"""How often each kind of spoiling must have happened."""


async def test_an_operator_with_a_spoiling_api_server_loses_nothing(
    release: Release, tmp_path: Path
) -> None:
    async with (
        Spoiler(Path(release.environment["KUBECONFIG"]), random.Random(1)) as spoiler,
        Lives("operator", tmp_path) as lives,
    ):
        environment = release.environment | {"KUBECONFIG": str(spoiler.kubeconfig)}
        life = lives.begin(environment=environment)
        stream, stop = Stream(release), asyncio.Event()
        running = asyncio.create_task(stream.run(stop))
        end = time.monotonic() + SECONDS
        while len(stream.done) < len(stream.errands) or not spoiler.has_done_all(LEAST):
            assert not life.done(), lives.log.read_text()[-5000:]
            assert stream.troubles == []
            assert time.monotonic() < end, (stream.done, spoiler.spoiled)
            await asyncio.sleep(0.2)
        stop.set()
        await running
        await stream.settle()
        lives.signal()
        assert (await life).exit_code == 0
    assert stream.troubles == []
