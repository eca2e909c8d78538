"""The API from end to end on `Local()`: same dispatcher, worker and ledger as on a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal.errors import InputsNotFound, JobNotFound


def module_level(x: int) -> tuple[int, str]:
    return x + 1, os.getcwd()


def nested() -> dict[str, Any]:
    """Functions that travel by value, so that no code has to be mirrored."""

    def square(x: int) -> int:
        return x * x

    def not_three(x: int) -> int:
        if x == 3:
            raise ValueError("three is not allowed")
        return x

    def add(a: int, b: int = 0) -> int:
        return a + b

    def talk() -> None:
        print("first line")
        print("to stderr", file=sys.stderr)

    return locals()


F = nested()


async def test_a_function_returns_its_result(local: shoal.Local, here: shoal.Deployment) -> None:
    assert await shoal.run_function(F["add"], local, None, here, [1], {"b": 2}) == 3
    assert await shoal.run_function(lambda: None, local, deployment=here) is None


async def test_a_closure_and_a_method(local: shoal.Local, here: shoal.Deployment) -> None:
    bound = 5
    assert await shoal.run_function(lambda x: x + bound, local, None, here, args=[1]) == 6
    assert await shoal.run_function("a-b".split, local, None, here, args=["-"]) == ["a", "b"]


async def test_a_function_by_name(local: shoal.Local, here: shoal.Deployment) -> None:
    assert await shoal.run_function("math.gcd", local, None, here, args=[12, 18]) == 6


async def test_the_default_deployment_brings_the_users_modules(local: shoal.Local) -> None:
    result, folder = await shoal.run_function(module_level, local, args=[1])
    assert result == 2
    assert folder != os.getcwd()
    assert Path(folder).name == Path.cwd().name


async def test_a_mirrored_deployment_that_nobody_awaited(
    local: shoal.Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.txt").write_text("42")
    monkeypatch.chdir(tmp_path / "here")
    pending = shoal.Deployment.mirror_local(
        include_sys_path=False, globs="data.txt", environment_variables={"A": "b"}
    )
    read = lambda: (open("data.txt").read(), os.environ["A"])  # noqa: E731, SIM115
    for _ in range(2):
        assert await shoal.run_function(read, local, deployment=pending) == ("42", "b")


async def test_code_that_was_deleted_from_the_folder_goes_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.txt").write_text("42")
    monkeypatch.chdir(tmp_path / "here")
    host = shoal.Local(folder=tmp_path / "folder")
    deployment = await shoal.Deployment.mirror_local(include_sys_path=False, globs="data.txt")
    read = lambda: open("data.txt").read()  # noqa: E731, SIM115
    handle = await shoal.submit_function(read, host, None, deployment)
    (part,) = (tmp_path / "folder").rglob("code/" + deployment.code.parts[0].sha256)  # type: ignore[union-attr]
    assert await handle.result() == "42"
    part.unlink()
    ended = tmp_path / "folder" / "runs" / f"{handle.name}.json"
    about = json.loads(ended.read_text())
    about["status"]["end"] = ["failed", "InputsNotFound", "the code is gone", None]
    about["status"]["ledger"] = {"length": 0, "digest": ""}
    ended.write_text(json.dumps(about))
    with pytest.raises(InputsNotFound):
        await (await shoal.attach(handle.name, host)).result()
    assert await shoal.run_function(read, host, deployment=deployment) == "42"
    assert part.exists()


async def test_what_a_function_raises(local: shoal.Local, here: shoal.Deployment) -> None:
    with pytest.raises(shoal.TaskException) as caught:
        await shoal.run_function(F["not_three"], local, None, here, args=[3])
    assert caught.value.type == "ValueError"
    assert caught.value.message == "three is not allowed"
    assert "Remote traceback" in str(caught.value)
    assert "in not_three" in str(caught.value)


async def test_leaving_is_a_failure(local: shoal.Local, here: shoal.Deployment) -> None:
    for code in (0, 3):
        with pytest.raises(shoal.TaskException, match=str(code)):
            await shoal.run_function(lambda code=code: sys.exit(code), local, deployment=here)


async def test_a_result_that_cannot_be_pickled(local: shoal.Local, here: shoal.Deployment) -> None:
    with pytest.raises(shoal.TaskException, match="pickle"):
        await shoal.run_function(lambda: (x for x in "a"), local, deployment=here)


async def test_a_result_that_cannot_be_unpickled_here(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    def make() -> Any:
        import types

        sys.modules["only_there"] = module = types.ModuleType("only_there")
        exec("class Thing: pass", module.__dict__)
        module.Thing.__module__ = "only_there"  # type: ignore[attr-defined]
        return module.Thing()  # type: ignore[attr-defined]

    with pytest.raises(shoal.TaskException, match="can't be unpickled here"):
        await shoal.run_function(make, local, deployment=here)
    [task] = [r async for r in shoal.run_map_as_completed(lambda _: make(), [1], local, None, here)]
    assert task.state == "RESULT_CANNOT_BE_UNPICKLED"
    assert isinstance(task.result, bytes)


async def test_a_large_result_travels_beside_the_ledger(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    result = await shoal.run_function(lambda: b"x" * 10_000_000, local, deployment=here)
    assert len(result) == 10_000_000


async def test_output_appears_at_the_client(
    local: shoal.Local, here: shoal.Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    await shoal.run_function(F["talk"], local, deployment=here)
    printed = capsys.readouterr().out
    assert "first line\n" in printed
    assert "to stderr\n" in printed


async def test_a_maps_output_is_shown_when_asked_for(
    local: shoal.Local, here: shoal.Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    say = lambda x: print(f"item {x}")  # noqa: E731
    await shoal.run_map(say, ["a", "b"], local, deployment=here)
    assert capsys.readouterr().out == ""
    await shoal.run_map(say, ["a", "b"], local, deployment=here, logs=True)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == ["[task 0] item a", "[task 1] item b"]


async def test_a_command(
    local: shoal.Local, here: shoal.Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    done = await shoal.run_command([sys.executable, "-c", "print(1 + 1)"], local, deployment=here)
    assert (done.result, done.return_code, done.process_state) == (None, 0, "SUCCEEDED")
    assert capsys.readouterr().out == "2\n"
    assert (await shoal.run_command("echo 'a b'", local, deployment=here)).return_code == 0
    assert capsys.readouterr().out == "a b\n"


async def test_a_command_that_fails(local: shoal.Local, here: shoal.Deployment) -> None:
    program = "print('the last words'); raise SystemExit(7)"
    with pytest.raises(shoal.CommandFailedException, match="the last words") as caught:
        await shoal.run_command([sys.executable, "-c", program], local, deployment=here)
    assert caught.value.return_code == 7


async def test_a_command_that_does_not_exist(local: shoal.Local, here: shoal.Deployment) -> None:
    with pytest.raises(shoal.ShoalException, match="no-such-program"):
        await shoal.run_command("no-such-program", local, deployment=here)


async def test_a_map_keeps_the_items_order(local: shoal.Local, here: shoal.Deployment) -> None:
    items = list(range(500))
    results = await shoal.run_map(F["square"], items, local, deployment=here)
    assert results == [x * x for x in items]


async def test_maps_over_other_sequences(local: shoal.Local, here: shoal.Deployment) -> None:
    assert await shoal.run_map(F["square"], range(3), local, deployment=here) == [0, 1, 4]
    assert await shoal.run_map(F["square"], {2}, local, deployment=here) == [4]  # type: ignore[arg-type]
    assert await shoal.run_map("math.sqrt", (4.0,), local, deployment=here) == [2.0]


async def test_an_empty_map_starts_nothing(tmp_path: Path) -> None:
    nowhere = shoal.Local(tmp_path / "never made")
    assert await shoal.run_map(F["square"], [], nowhere) == []
    assert [r async for r in shoal.run_map_as_completed(F["square"], [], nowhere)] == []
    assert [r async for r in await shoal.run_map_as_completed(F["square"], [], nowhere)] == []
    assert not (tmp_path / "never made").exists()


async def test_a_map_with_failures_keeps_the_other_results(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(F["not_three"], range(6), local, deployment=here)
    assert caught.value.results == [0, 1, 2, None, 4, 5]
    [failed] = caught.value.failed
    assert (failed.task_id, failed.state, failed.attempt) == (3, "PYTHON_EXCEPTION", 1)
    assert "three is not allowed" in str(caught.value)


async def test_failures_are_tried_again(local: shoal.Local, here: shoal.Deployment) -> None:
    tasks = [
        task
        async for task in shoal.run_map_as_completed(
            F["not_three"], [1, 3], local, deployment=here, max_num_task_attempts=2
        )
    ]
    assert {task.task_id: task.attempt for task in tasks} == {0: 1, 1: 2}


async def test_as_completed_with_and_without_await(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    without = [t async for t in shoal.run_map_as_completed(F["square"], [1, 2], local, None, here)]
    awaited = await shoal.run_map_as_completed(F["square"], [1, 2], local, None, here)
    with_await = [task async for task in awaited]
    for tasks in (without, with_await):
        by_id = sorted(tasks, key=lambda task: task.task_id)
        assert [task.result_or_raise() for task in by_id] == [1, 4]


async def test_a_failed_task_does_not_end_the_iteration(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    tasks = [t async for t in shoal.run_map_as_completed(F["not_three"], [3, 4], local, None, here)]
    assert sorted((task.task_id, task.is_success) for task in tasks) == [(0, False), (1, True)]


async def test_a_handle(local: shoal.Local, here: shoal.Deployment) -> None:
    handle = await shoal.submit_map(F["square"], [1, 2, 3], local, deployment=here, name="handled")
    assert handle.name == "handled"
    assert (await handle.wait()).phase == "Complete"
    status = await handle.status()
    assert (status.succeeded, status.total, status.progress) == (3, 3, "3/3")
    assert await handle.result() == [1, 4, 9]
    assert sorted([task.result async for task in handle.results()]) == [1, 4, 9]
    again = await shoal.attach("handled", local)
    assert await again.result() == [1, 4, 9]
    await again.delete()
    with pytest.raises(JobNotFound, match="handled"):
        await shoal.attach("handled", local)


async def test_a_handle_of_a_function_has_its_output(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    handle = await shoal.submit_function(F["talk"], local, deployment=here)
    await handle.wait()
    assert "first line\n" in await handle.logs()
    assert await handle.logs() == await handle.logs(follow=True)
    assert await handle.result() is None


async def test_a_handle_of_a_command(local: shoal.Local, here: shoal.Deployment) -> None:
    handle = await shoal.submit_command("echo hello", local, deployment=here)
    assert (await handle.result()).return_code == 0
    assert await handle.logs() == "hello\n"
    with pytest.raises(ValueError, match="is a command"):
        await anext(handle.results())


async def test_cancelling_ends_a_run(local: shoal.Local, here: shoal.Deployment) -> None:
    import time

    handle = await shoal.submit_function(lambda: time.sleep(600), local, deployment=here)
    await handle.cancel()
    with pytest.raises(shoal.JobFailedException, match="Cancelled"):
        await handle.result()
    assert (await handle.status()).phase == "Cancelled"
    await handle.cancel()


async def test_a_cancelled_caller_cancels_the_run(
    local: shoal.Local, here: shoal.Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin() -> None:
        import time

        print("it runs")
        time.sleep(600)

    call = shoal.run_function(begin, local, deployment=here, name="cancelled-by-caller")
    task = asyncio.create_task(call)
    async with asyncio.timeout(30):
        while "it runs" not in capsys.readouterr().out:  # the caller waits, and shows output
            await asyncio.sleep(0.01)
    handle = await shoal.attach("cancelled-by-caller", local)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await handle.wait()).phase == "Cancelled"


async def test_fire_and_forget_returns_none(local: shoal.Local, here: shoal.Deployment) -> None:
    for name, call in {
        "forgotten-function": shoal.run_function(
            F["add"], local, None, here, [1], wait_for_result=False, name="forgotten-function"
        ),
        "forgotten-command": shoal.run_command(
            "true", local, deployment=here, wait_for_result=False, name="forgotten-command"
        ),
        "forgotten-map": shoal.run_map(
            F["square"], [1], local, None, here, wait_for_result=False, name="forgotten-map"
        ),
    }.items():
        assert await call is None
        assert (await (await shoal.attach(name, local)).wait()).phase == "Complete"


async def test_a_name_can_be_used_once(local: shoal.Local, here: shoal.Deployment) -> None:
    await shoal.run_function(F["add"], local, None, here, [1], name="used-once")
    with pytest.raises(ValueError, match="used-once exists already"):
        await shoal.run_function(F["add"], local, None, here, [1], name="used-once")


async def test_a_dry_run_returns_the_manifest(local: shoal.Local, here: shoal.Deployment) -> None:
    resources = shoal.Resources(0.5, 1)
    model = await shoal.run_map(F["square"], range(9), local, resources, here, dry_run=True)
    manifest = model.to_dict()
    assert manifest["kind"] == "MapJob"
    assert manifest["spec"]["parallelism"] == 5
    assert manifest["spec"]["items"] == {"packed": {"count": 9}}
    assert manifest["spec"]["resources"] == {"cpu": "500m", "memory": str(2**30)}
    job = await shoal.run_command("echo hi", local, deployment=here, name="said", dry_run=True)
    assert job.to_dict()["spec"]["command"] == ["echo", "hi"]
    assert job.name == "said"


async def test_an_item_that_cannot_be_pickled_is_named(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    with pytest.raises(shoal.Unpicklable, match="item 1") as caught:
        await shoal.run_map(F["square"], [1, (x for x in "a")], local, deployment=here)
    assert caught.value.item == 1
    with pytest.raises(shoal.Unpicklable, match="function"):
        generator = (x for x in "a")
        await shoal.run_function(lambda: generator, local, deployment=here)


async def test_many_calls_at_once(local: shoal.Local, here: shoal.Deployment) -> None:
    calls = [shoal.run_function(F["square"], local, None, here, args=[n]) for n in range(30)]
    assert await asyncio.gather(*calls) == [n * n for n in range(30)]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "script.py"


def test_a_module_that_submits_when_it_is_imported_is_refused(script: Path) -> None:
    script.with_name("eager.py").write_text(
        textwrap.dedent(
            """
            import shoal
            from shoal import blocking

            def f():
                return 1

            HOST = shoal.Local("folder")
            RESULT = blocking.run_function(f, HOST)
            """
        )
    )
    script.write_text("import eager")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=script.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert '__name__ == "__main__"' in done.stderr
