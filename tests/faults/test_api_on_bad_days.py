"""An operator whose API server spoils a quarter of its requests still serves its maps."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from shoal.kube import connect

from .api_proxy import SpoilingProxy
from .lives import Lives
from .release import OTHERS_NAMES, Release
from .stream import Stream

KINDS = {"429", "500", "500 after", "no answer", "409", "410", "watch cut"}
EACH = 3
"""So often each kind must have happened."""
LONGEST = 90.0


async def test_maps_survive_an_api_server_that_spoils_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ.get("KUBECONFIG"), 'no cluster: run eval "$(make -s cluster-env)" first'
    for name in OTHERS_NAMES:
        monkeypatch.delenv(name, raising=False)
    async with await connect() as api, Release(api, tmp_path) as release:
        real = Path(release.environment["KUBECONFIG"])
        async with (
            SpoilingProxy(real, seed=4) as proxy,
            Lives("operator", tmp_path) as lives,
        ):
            proxy.write_kubeconfig(tmp_path / "spoiling")
            spoiled = {**release.environment, "KUBECONFIG": str(tmp_path / "spoiling")}
            life = lives.begin(environment=spoiled)
            stream, stop = Stream(release), asyncio.Event()
            running = asyncio.create_task(stream.run(stop))
            try:
                async with asyncio.timeout(LONGEST):
                    while min(proxy.spoiled[kind] for kind in KINDS) < EACH:
                        assert not life.done(), f"the operator left; log: {lives.log}"
                        await asyncio.sleep(0.2)
            finally:
                proxy.at_peace = True
                stop.set()
                await running
            await stream.settle()
            lives.signal()
            assert (await life).exit_code == 0
        assert stream.troubles == []
