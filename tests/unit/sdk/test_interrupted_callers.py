"""Callers that stop waiting: by default the run is cancelled, on wish it goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import shoal
import shoal.resources  # else the loop stands still at the first status, and what it reads is old
from shoal.errors import JobDeleted, JobNotFound


async def running(name: str, host: shoal.Host) -> shoal.JobHandle:
    """Attach as soon as the run is there and runs."""
    async with asyncio.timeout(30):
        while True:
            try:
                handle = await shoal.attach(name, host)
                if (await handle.status()).phase == "Running":
                    return handle
            except (JobDeleted, JobNotFound):
                pass  # not there yet
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("detach", "phase"), [(False, "Cancelled"), (True, "Complete")])
async def test_a_cancelled_caller(
    local: shoal.Local,
    here: shoal.Deployment,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    detach: bool,
    phase: str,
) -> None:
    gate = tmp_path / "gate"

    def work() -> str:
        while not gate.exists():
            time.sleep(0.01)
        return "done"

    call = shoal.run_function(
        work, local, deployment=here, name=f"caller-{phase.lower()}", detach_on_interrupt=detach
    )
    task = asyncio.create_task(call)
    handle = await running(f"caller-{phase.lower()}", local)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.touch()
    assert (await handle.wait()).phase == phase
    told = f"shoal.attach('{handle.name}', host) follows it" in capsys.readouterr().err
    assert told == detach


@pytest.mark.parametrize(("detach", "phase"), [(False, "Cancelled"), (True, "Complete")])
async def test_a_loop_that_is_left(
    local: shoal.Local, here: shoal.Deployment, tmp_path: Path, detach: bool, phase: str
) -> None:
    gate = tmp_path / "gate"

    def work(item: int) -> int:
        while item and not gate.exists():
            time.sleep(0.01)
        return item

    name = f"left-{phase.lower()}"
    tasks = shoal.run_map_as_completed(
        work, [0, 1, 2], local, deployment=here, name=name, detach_on_interrupt=detach
    )
    async for task in tasks:
        assert task.task_id == 0
        break
    handle = await shoal.attach(name, local)
    if not detach:
        assert (await handle.wait()).phase == phase
    gate.touch()
    assert (await handle.wait()).phase == phase
    if detach:
        assert await handle.result() == [0, 1, 2]


def test_ctrl_c_leaves_a_detached_run_alone(tmp_path: Path) -> None:
    program = f"""
        import signal, time, shoal
        from pathlib import Path
        from shoal import blocking
        gate = Path({str(tmp_path / "gate")!r})
        def work():
            print("at work", flush=True)
            while not gate.exists():
                time.sleep(0.01)
            return 5
        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            host = shoal.Local({str(tmp_path / "bucket")!r})
            try:
                blocking.run_function(
                    work, host, deployment=shoal.Deployment(), name="kept", detach_on_interrupt=True
                )
            except KeyboardInterrupt:
                gate.touch()
                print(blocking.attach("kept", host).result())
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert output == "5\n", errors
    assert "local/kept goes on as long as this process lives" in errors
