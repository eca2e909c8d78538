"""`shoal.logs`: what tasks printed, by the run's name, after the run."""

from __future__ import annotations

import asyncio

import pytest

import shoal
from shoal import blocking
from shoal.errors import JobNotFound


async def test_what_tasks_printed_is_read_by_name_and_task(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    def talk(item: int) -> None:
        print(f"item {item}")

    handle = await shoal.submit_map(talk, [5, 6, 7], local, deployment=here, name="talkers")
    tasks = {task.task_id: task async for task in handle.results()}
    assert sorted((await shoal.logs("talkers", local)).splitlines()) == [
        "[task 0] item 5",
        "[task 1] item 6",
        "[task 2] item 7",
    ]
    assert await shoal.logs("talkers", local, task=1) == "item 6\n"
    assert await shoal.logs("talkers", local, task=1, attempt=2) == ""
    assert await shoal.logs(tasks[2].log_file_name, local) == "item 7\n"
    assert await asyncio.to_thread(blocking.logs, "talkers", local, task=0) == "item 5\n"
    with pytest.raises(JobNotFound, match="never-was"):
        await shoal.logs("never-was", local)
