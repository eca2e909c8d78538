"""What a handle does with a run on this machine: pause it, widen it, read what it printed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shoal
from shoal.errors import ConfigurationError, JobDeleted, JobNotFound


def waiting_for(path: Path) -> Callable[[int], int]:
    """Return a function that says where it runs, and waits until the file is there."""

    def wait(item: int) -> int:
        import os

        print(f"{item} begins")
        (path.parent / f"begun-{item}-{time.monotonic_ns()}").touch()
        while not os.path.exists(path):
            time.sleep(0.01)
        print(f"{item} ends")
        return item

    return wait


def begun(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("begun-*"))


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not ready():
            await asyncio.sleep(0.01)


async def test_a_suspended_map_holds_still_and_goes_on(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    handle = await shoal.submit_map(waiting_for(gate), range(4), local, None, here, 2)
    await until(lambda: begun(tmp_path) == [0, 1])
    await handle.suspend()
    assert (await handle.status()).phase == "Suspended"
    gate.touch()
    other = await shoal.run_map(lambda x: x, range(3), local, None, here)
    assert other == [0, 1, 2]  # its workers are free
    assert set(begun(tmp_path)) == {0, 1}
    await handle.resume()
    results = [task async for task in handle.results()]
    assert sorted(task.result for task in results) == [0, 1, 2, 3]
    assert {task.attempt for task in results} == {1}
    await handle.suspend()  # it is over: no harm done
    assert (await handle.status()).phase == "Complete"


async def test_a_map_is_made_wider(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    handle = await shoal.submit_map(waiting_for(gate), range(3), local, None, here, 1)
    await until(lambda: begun(tmp_path) == [0])
    await handle.set_parallelism(3)
    await until(lambda: begun(tmp_path) == [0, 1, 2])
    gate.touch()
    assert await handle.result() == [0, 1, 2]


async def test_how_many_workers_must_be_a_number_and_of_a_map(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    call = await shoal.submit_function(lambda: 1, local, None, here)
    with pytest.raises(ConfigurationError, match="is no map"):
        await call.set_parallelism(2)
    handle = await shoal.submit_map(abs, [1], local, None, here)
    for workers in (0, -1, True, 1.5, None):
        with pytest.raises(ConfigurationError, match="must be 1 or more"):
            await handle.set_parallelism(workers)  # type: ignore[arg-type]


async def test_a_run_that_nobody_has_begun_is_pending(
    local: shoal.Local, here: shoal.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await shoal.submit_function(lambda: 1, local, None, here)
    await handle.wait()

    async def nothing() -> dict[str, object]:
        return {}

    monkeypatch.setattr(handle._run, "status", nothing)
    assert (await handle.status()).phase == "Pending"


async def test_what_never_was_and_what_is_no_more(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    with pytest.raises(JobNotFound, match="There is no local/never"):
        await shoal.attach("never", local)
    handle = await shoal.submit_function(lambda: 1, local, None, here)
    await handle.wait()
    await handle.delete()
    with pytest.raises(JobDeleted, match="was deleted"):
        await handle.status()


async def test_what_ended_more_than_a_day_ago_goes_with_the_next_run(
    here: shoal.Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.local_workers.SWEEP_SECONDS", 0.0)
    local = shoal.Local(tmp_path / "bucket")
    for name in ("old", "young"):
        assert await shoal.run_function(abs, local, None, here, [-1], name=name) == 1
    gate = tmp_path / "gate"
    living = await shoal.submit_map(waiting_for(gate), [0], local, None, here, name="living")
    await until(lambda: begun(tmp_path) == [0])
    folder = Path(str(local.folder))
    jobs = folder / "local/default/jobs"
    before = set(jobs.iterdir())
    assert (old := jobs / json.loads((folder / "runs/old.json").read_text())["id"]) in before
    (folder / "runs/no-run-of-ours.json").write_text("?")
    for name in ("old", "living", "no-run-of-ours"):
        os.utime(folder / "runs" / f"{name}.json", (0, 0))
    assert await shoal.run_function(abs, local, None, here, [-2], name="next") == 2
    left = {path.stem for path in (folder / "runs").iterdir()}
    assert left == {"young", "living", "next", "no-run-of-ours"}
    assert before - set(jobs.iterdir()) == {old}
    gate.touch()
    assert await living.result() == [0]


async def test_a_run_of_another_process_is_read_and_not_changed(tmp_path: Path) -> None:
    program = """
        import sys, shoal
        from shoal import blocking
        host = shoal.Local(sys.argv[1])
        handle = blocking.submit_map(abs, [-1, 2], host, deployment=shoal.Deployment(), name="far")
        print(handle.result())
    """
    words = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=60)
    assert done.stdout == b"[1, 2]\n", done.stderr
    handle = await shoal.attach("far", shoal.Local(tmp_path))
    assert await handle.result() == [1, 2]
    for change in (handle.suspend(), handle.resume(), handle.set_parallelism(2), handle.cancel()):
        with pytest.raises(ConfigurationError, match="run by another process"):
            await change


async def test_output_by_task_and_attempt(local: shoal.Local, here: shoal.Deployment) -> None:
    def talk(item: int) -> int:
        print(f"one of {item}")
        print(f"two of {item}", end="")
        if item == 1:
            raise ValueError("again")
        return item

    handle = await shoal.submit_map(
        talk, range(3), local, None, here, 2, max_num_task_attempts=2, name="talk"
    )
    status = await handle.wait()
    assert status.failed == 1
    lines = sorted((await handle.logs()).splitlines())
    assert lines == [
        "[task 0] one of 0",
        "[task 0] two of 0",
        "[task 1, attempt 2] one of 1",
        "[task 1, attempt 2] two of 1",
        "[task 1] one of 1",
        "[task 1] two of 1",
        "[task 2] one of 2",
        "[task 2] two of 2",
    ]
    assert await handle.logs(task=2) == "one of 2\ntwo of 2"
    assert await handle.logs(task=1, attempt=2) == "one of 1\ntwo of 1"
    assert await handle.logs(task=0, attempt=2) == ""
    assert await shoal.logs("talk", local, task=2) == "one of 2\ntwo of 2"
    tasks = {task.task_id: task async for task in handle.results()}
    assert tasks[1].log_file_name == "local/talk/logs/1"
    assert await shoal.logs(tasks[1].log_file_name, local, attempt=1) == "one of 1\ntwo of 1"
    assert await tasks[1].logs(local) == "one of 1\ntwo of 1"
    for task in (3, -1):
        with pytest.raises(ConfigurationError, match="its tasks are 0 to 2"):
            await handle.logs(task=task)
    with pytest.raises(ConfigurationError, match="is the log of task 1, not of task 2"):
        await shoal.logs("local/talk/logs/1", local, task=2)
    odd = await shoal.submit_function(lambda: print("odd"), local, None, here, name="logs")
    await odd.wait()
    assert await shoal.logs("local/logs", local) == await shoal.logs("local/logs/logs", local)
    assert await shoal.logs("local/logs/logs/0", local) == "odd\n"
    with pytest.raises(ConfigurationError, match="is no run's name"):
        await shoal.logs("local/talk/files/1", local)


async def test_output_of_a_run_that_goes_on(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    handle = await shoal.submit_map(waiting_for(gate), range(2), local, None, here, 1)
    following = handle.follow_logs(task=0)
    assert await anext(following) == "0 begins\n"
    assert await handle.logs() == "[task 0] 0 begins\n"
    assert await handle.logs(task=1) == ""
    assert await shoal.logs(handle.name, local) == "[task 0] 0 begins\n"
    streaming = asyncio.create_task(shoal.logs(handle.name, local, follow=True))
    gate.touch()
    assert [text async for text in following] == ["0 ends\n"]
    whole = await streaming
    assert sorted(whole.splitlines()) == [
        "[task 0] 0 begins",
        "[task 0] 0 ends",
        "[task 1] 1 begins",
        "[task 1] 1 ends",
    ]


@pytest.mark.parametrize("how", ["changed", "removed"])
async def test_output_that_was_tampered_with_costs_no_result(
    local: shoal.Local, here: shoal.Deployment, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await shoal.submit_function(lambda: print("hello"), local, None, here)
    await handle.wait()
    folder = Path(str(local.folder)) / handle._run._prefix / "logs"  # type: ignore[attr-defined]
    for chunk in list(folder.iterdir()):
        if how == "changed":
            chunk.write_bytes(b"junk")
        else:
            chunk.unlink()
    with caplog.at_level(logging.WARNING, "shoal"):
        assert await handle.logs() == ""
    said = [record.getMessage() for record in caplog.records if record.name == "shoal"]
    assert len(said) == 1
    assert said[0].startswith(f"{handle.full_name}: a part of its output can't be read")
    assert await handle.result() is None
