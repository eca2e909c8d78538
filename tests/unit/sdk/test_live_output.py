"""What a task prints is there while it runs."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path

import shoal


async def test_a_line_is_read_while_its_task_waits_for_the_reader(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"

    def talk() -> str:
        print("at work")
        while not heard.exists():
            time.sleep(0.01)
        return "done"

    handle = await shoal.submit_function(talk, local, deployment=here)
    said = ""
    async with aclosing(handle.follow_logs()) as pieces:
        while not said.endswith("\n"):  # pieces end anywhere
            said += await anext(pieces)
    assert said == "at work\n"
    heard.touch()
    assert await handle.result() == "done"
