"""`shoal.blocking` is the whole API without `await`, and works where a loop runs already."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import shoal
from shoal import api, blocking, blocking_gen, loop_thread
from shoal.handle import JobHandle


def test_it_is_what_would_be_generated() -> None:
    assert blocking_gen.TARGET.read_text() == blocking_gen.text()


def test_every_function_and_method_is_there_with_the_same_parameters() -> None:
    for name in shoal._HOMES["api"].split():
        one, other = (inspect.signature(getattr(module, name)) for module in (api, blocking))
        assert list(one.parameters) == list(other.parameters)
    for name, method in inspect.getmembers(JobHandle, inspect.isfunction):
        if not name.startswith("_"):
            blocking_method = getattr(blocking.JobHandle, name)
            assert not inspect.iscoroutinefunction(blocking_method)
            assert list(inspect.signature(method).parameters) == list(
                inspect.signature(blocking_method).parameters
            )


def test_functions_maps_and_commands(local: shoal.Local, here: shoal.Deployment) -> None:
    assert blocking.run_function(lambda: 5, local, deployment=here) == 5
    assert blocking.run_map(lambda x: x + 1, [1, 2], local, deployment=here) == [2, 3]
    assert blocking.run_command("true", local, deployment=here).return_code == 0
    with pytest.raises(shoal.TaskException):
        blocking.run_function(lambda: 1 / 0, local, deployment=here)


async def test_it_works_inside_a_running_loop(local: shoal.Local, here: shoal.Deployment) -> None:
    assert blocking.run_function(lambda: 5, local, deployment=here) == 5


def test_results_as_they_come_and_a_loop_that_is_left(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    tasks = list(blocking.run_map_as_completed(lambda x: x, [1, 2], local, deployment=here))
    assert sorted(task.result_or_raise() for task in tasks) == [1, 2]
    slow = lambda x: time.sleep(x)  # noqa: E731
    running = blocking.run_map_as_completed(
        slow, [0, 600], local, deployment=here, name="left-early"
    )
    assert next(iter(running)).task_id == 0
    running.close()  # type: ignore[attr-defined]
    assert blocking.attach("left-early", local).wait().phase == "Cancelled"


def test_a_handle(local: shoal.Local, here: shoal.Deployment) -> None:
    handle = blocking.submit_function(lambda: print("said"), local, deployment=here, name="synced")
    assert (handle.name, handle.full_name) == ("synced", "local/synced")
    assert handle.wait().phase == "Complete"
    assert handle.logs() == "said\n"
    assert handle.result() is None
    assert [task.result for task in handle.results()] == [None]
    handle.delete()


def test_wrong_arguments_are_told_at_once(local: shoal.Local) -> None:
    with pytest.raises(ValueError, match="num_concurrent_tasks"):
        blocking.run_map_as_completed(len, ["a"], local, num_concurrent_tasks=0)


def test_calling_it_from_its_own_loop_is_refused(local: shoal.Local) -> None:
    async def inside() -> None:
        blocking.run_function(len, local, args=[""])

    with pytest.raises(RuntimeError, match="its own event loop"):
        loop_thread.run(inside())


def test_ctrl_c_cancels_the_run_and_the_process_ends(tmp_path: Path) -> None:
    program = f"""
        import signal, time, shoal
        from shoal import blocking
        def work():
            print("at work", flush=True)
            time.sleep(600)
        if __name__ == "__main__":
            # who starts the tests may ignore it, as a shell does for what runs in its background
            signal.signal(signal.SIGINT, signal.default_int_handler)
            host = shoal.Local({str(tmp_path / "bucket")!r})
            try:
                blocking.run_function(work, host, deployment=shoal.Deployment(), name="stopped")
            except KeyboardInterrupt:
                print(blocking.attach("stopped", host).wait().phase)
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
    assert output == "Cancelled\n", errors
    assert process.returncode == 0
