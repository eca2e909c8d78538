"""The SDK from outside the cluster: every entry, on real Pods."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from namespaces import Place

import shoal
from shoal.errors import JobDeleted, JobNotFound
from shoal.kube import MAPJOBS, PODS

HERE = shoal.Deployment()  # functions that travel by value need no code


@pytest.fixture
def host(place: Place, bucket_key: str) -> shoal.Kubernetes:
    return shoal.Kubernetes(kubernetes_namespace=place.namespace)


async def test_a_function_by_value_and_by_name(host: shoal.Kubernetes) -> None:
    assert await shoal.run_function(lambda a, b: a + b, host, None, HERE, [1], {"b": 2}) == 3
    assert await shoal.run_function("math.gcd", host, None, HERE, [12, 18]) == 6


async def test_a_function_of_the_users_files_with_data_beside_it(
    host: shoal.Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_module.py").write_text(
        "import shoal\n"
        "HOST = shoal.Kubernetes(reusable_pods=True)\n"
        "DEPLOYMENT = shoal.Deployment.mirror_local(globs='*.txt')\n"
        "def read(name):\n    return open(name).read()\n"
    )
    (tmp_path / "data.txt").write_text("the data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_module

    pending = users_module.DEPLOYMENT
    read = users_module.read
    assert await shoal.run_function(read, host, None, pending, ["data.txt"]) == "the data"
    assert await shoal.run_function(read, host, None, await pending, ["data.txt"]) == "the data"
    assert await shoal.run_function("users_module.read", host, args=["users_module.py"])


async def test_a_function_runs_in_a_pod_and_says_what_it_does(
    host: shoal.Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    def where() -> str:
        import platform

        print("hello from the Pod")
        return platform.node()

    pod = await shoal.run_function(where, host, shoal.Resources(0.1, 0.1), HERE)
    assert pod.startswith("shoal-")
    assert "hello from the Pod\n" in capsys.readouterr().out


async def test_a_function_that_raises(host: shoal.Kubernetes) -> None:
    def broken() -> None:
        raise KeyError("missing")

    with pytest.raises(
        shoal.TaskException, match=r"KeyError: 'missing'[\s\S]*Remote traceback"
    ) as e:
        await shoal.run_function(broken, host, deployment=HERE)
    assert e.value.type == "KeyError"


async def test_a_command_and_one_that_fails(
    host: shoal.Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    done = await shoal.run_command(["python", "-c", "print(40 + 2)"], host, deployment=HERE)
    assert (done.return_code, done.public_address) == (0, "kubernetes")
    assert capsys.readouterr().out == "42\n"
    with pytest.raises(shoal.CommandFailedException, match="the end") as caught:
        program = "print('the end'); raise SystemExit(3)"
        await shoal.run_command(["python", "-c", program], host, deployment=HERE)
    assert caught.value.return_code == 3


async def test_a_map_and_one_with_failures(host: shoal.Kubernetes) -> None:
    assert await shoal.run_map(lambda x: x * x, range(200), host, None, HERE, 2) == [
        x * x for x in range(200)
    ]

    def picky(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(picky, range(4), host, None, HERE, 2, max_num_task_attempts=2)
    assert caught.value.results == [0, None, 2, None]
    assert [(task.task_id, task.attempt) for task in caught.value.failed] == [(1, 2), (3, 2)]


async def test_results_come_as_they_are_done(host: shoal.Kubernetes) -> None:
    tasks = [t async for t in shoal.run_map_as_completed(len, ["a", "bb"], host, None, HERE)]
    awaited = await shoal.run_map_as_completed(len, ["a", "bb"], host, None, HERE)
    for found in (tasks, [task async for task in awaited]):
        assert {task.task_id: task.result_or_raise() for task in found} == {0: 1, 1: 2}
        assert all(task.pod.startswith("shoal-") and task.node for task in found)


async def test_a_result_too_large_for_the_ledger(host: shoal.Kubernetes) -> None:
    result = await shoal.run_function(lambda: b"x" * 5_000_000, host, deployment=HERE)
    assert len(result) == 5_000_000


async def test_an_empty_map_makes_nothing(host: shoal.Kubernetes, place: Place) -> None:
    assert await shoal.run_map(len, [], host) == []
    assert (await place.api.list(MAPJOBS, place.namespace))["items"] == []


async def test_a_handle_and_another_process_that_attaches(
    host: shoal.Kubernetes, place: Place
) -> None:
    handle = await shoal.submit_map(lambda x: x + 1, [1, 2, 3], host, None, HERE, name="shared")
    program = f"""
        from shoal import Kubernetes, blocking
        handle = blocking.attach("shared", Kubernetes(kubernetes_namespace={place.namespace!r}))
        print(handle.full_name, handle.result(), handle.status().phase)
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    other = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, timeout=60
    )
    assert other.stdout == "mapjobs.shoal.dev/shared [2, 3, 4] Complete\n", other.stderr
    assert await handle.result() == [2, 3, 4]
    assert (await handle.status()).succeeded == 3
    await handle.delete()
    with pytest.raises(JobNotFound, match="shared"):
        await shoal.attach("mapjobs.shoal.dev/shared", host)


async def test_fire_and_forget(host: shoal.Kubernetes) -> None:
    assert await shoal.run_function(len, host, None, HERE, ["abc"], wait_for_result=False) is None
    done = shoal.run_command("true", host, None, HERE, wait_for_result=False, name="forgotten")
    assert await done is None
    assert (await (await shoal.attach("forgotten", host)).wait()).phase == "Complete"


async def test_cancelling_the_caller_cancels_the_job(host: shoal.Kubernetes) -> None:
    call = shoal.run_function(lambda: time.sleep(600), host, None, HERE, name="long")
    task = asyncio.create_task(call)
    async with asyncio.timeout(60):
        while not (handle := await found("long", host)) or (
            (await handle.status()).phase != "Running"
        ):
            await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await handle.wait()).phase == "Cancelled"
    with pytest.raises(shoal.errors.Cancelled):
        await handle.result()


async def found(name: str, host: shoal.Kubernetes) -> shoal.JobHandle | None:
    try:
        return await shoal.attach(name, host)
    except JobNotFound:
        return None


async def test_a_job_that_is_deleted_while_somebody_waits(host: shoal.Kubernetes) -> None:
    handle = await shoal.submit_function(lambda: time.sleep(600), host, None, HERE)
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await handle.delete()
    with pytest.raises(JobDeleted, match=handle.full_name):
        await waiting


async def test_pods_of_a_host_that_does_not_reuse_them_are_gone_with_the_job(
    place: Place, bucket_key: str
) -> None:
    alone = shoal.Kubernetes(kubernetes_namespace=place.namespace, resuable_pods=False)
    assert await shoal.run_function(len, alone, None, HERE, ["ab"]) == 2
    await place.until_pods(lambda pods: not pods)


async def test_many_calls_at_once(host: shoal.Kubernetes) -> None:
    calls = [shoal.run_function(lambda n: n, host, None, HERE, [n]) for n in range(40)]
    assert await asyncio.gather(*calls) == list(range(40))


async def test_the_resource_holds_no_pickle_and_stays_small(
    host: shoal.Kubernetes, place: Place
) -> None:
    model = await shoal.run_map(len, ["x"] * 10_000, host, None, HERE, dry_run=True)
    assert len(model.to_yaml()) < 10_000
    assert model.to_dict()["metadata"]["namespace"] == place.namespace
    assert (await place.api.list(PODS, place.namespace))["items"] == []


async def test_the_blocking_face(host: shoal.Kubernetes) -> None:
    def calls() -> Any:
        blocking = shoal.blocking
        tasks = list(blocking.run_map_as_completed(len, ["a", "bb"], host, None, HERE))
        return (
            blocking.run_function(len, host, None, HERE, ["abc"]),
            blocking.run_map(len, ["a", "bb"], host, None, HERE),
            sorted(task.result_or_raise() for task in tasks),
        )

    assert await asyncio.to_thread(calls) == (3, [1, 2], [1, 2])
