"""Attempts, times and copies of tasks, as the API has them, with real workers on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import shoal


async def test_a_task_whose_time_is_over_is_killed_and_the_others_go_on(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    with pytest.raises(shoal.RunMapTasksFailedException) as raised:
        await shoal.run_map(work, [0, 600, 0], local, deployment=here, task_timeout_seconds=1)
    assert raised.value.results == [0, None, 0]
    (failed,) = raised.value.failed
    assert (failed.task_id, failed.state) == (1, "TIMED_OUT")
    assert "longer than its 1 s" in str(raised.value)


async def test_a_function_gets_another_attempt(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    def work() -> str:
        tries = tmp_path / "tries"
        with tries.open("a") as file:
            file.write(".")
        if len(tries.read_text()) < 3:
            raise ValueError("not yet")
        return "done"

    call = {"deployment": here, "max_num_task_attempts": 3}
    assert await shoal.run_function(work, local, **call) == "done"  # type: ignore[arg-type]
    assert (tmp_path / "tries").read_text() == "..."


async def test_a_commands_time_is_over(local: shoal.Local, here: shoal.Deployment) -> None:
    with pytest.raises(shoal.ShoalException, match="longer than its 1 s"):
        await shoal.run_command("sleep 600", local, deployment=here, task_timeout_seconds=1)


async def test_a_second_copy_of_a_slow_task_wins(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    def work(item: int) -> int:
        first = tmp_path / "first"
        if item == 3 and not first.exists():
            first.touch()
            time.sleep(600)
        return item

    found = await shoal.run_map(
        work, range(4), local, deployment=here, num_concurrent_tasks=2, speculation=True
    )
    assert found == [0, 1, 2, 3]


async def test_short_tasks_do_not_wait_behind_a_long_one(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    """They were claimed together; the long one ends only once all the others have."""

    def work(item: int) -> int:
        (tmp_path / str(item)).touch()
        while item == 0 and len(list(tmp_path.iterdir())) < 40:
            time.sleep(0.01)
        return item

    found = await shoal.run_map(work, range(40), local, deployment=here, num_concurrent_tasks=2)
    assert found == list(range(40))
