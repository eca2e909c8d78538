"""What users pass and return that is large, uneven or odd: each task has its outcome."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import shoal


async def test_fifty_megabytes_of_items(local: shoal.Local, here: shoal.Deployment) -> None:
    items = [bytes([n % 251]) * 50_000 for n in range(1000)]
    found = await shoal.run_map(lambda x: (len(x), x[:1]), items, local, None, here, 2)
    assert found == [(50_000, bytes([n % 251])) for n in range(1000)]


async def test_items_whose_sizes_differ_by_a_million(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    items = [b"x" * size for size in (10, 10_000_000, 0, 1, 1_500_000, 10_000_000, 3)]
    assert await shoal.run_map(len, items, local, None, here, 2) == [len(item) for item in items]


async def test_results_whose_sizes_differ_by_a_million(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    sizes = [1, 10_000_000, 32_000, 0, 31_900, 1_000_000, 5]
    found = await shoal.run_map(lambda size: b"x" * size, sizes, local, None, here, 2)
    assert [len(result) for result in found] == sizes


async def test_none_is_a_result_also_beside_failures(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    def work(item: int) -> None:
        if item == 1:
            raise ValueError

    assert await shoal.run_map(work, [0, 2], local, None, here) == [None, None]
    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(work, range(3), local, None, here)
    assert caught.value.results == [None, None, None]
    assert [task.task_id for task in caught.value.failed] == [1]
    tasks = [task async for task in shoal.run_map_as_completed(work, range(3), local, None, here)]
    assert sorted((task.task_id, task.is_success) for task in tasks) == [
        (0, True),
        (1, False),
        (2, True),
    ]
    assert all(task.result_or_raise() is None for task in tasks if task.is_success)


def strange_errors() -> Any:
    """A function that travels by value, and raises what no client can import or print."""

    def work(item: int) -> int:
        import sys
        import types

        sys.modules["only_there"] = module = types.ModuleType("only_there")
        code = (
            "class Odd(Exception): pass\n"
            "class Mute(Exception):\n"
            "    def __str__(self): raise RuntimeError('no words')\n"
            "class Bare(BaseException): pass\n"
        )
        exec(code, module.__dict__)
        for name in ("Odd", "Mute", "Bare"):
            getattr(module, name).__module__ = "only_there"
        if item == 1:
            raise module.Odd("from afar", object())  # type: ignore[attr-defined]
        if item == 2:
            raise module.Mute  # type: ignore[attr-defined]
        if item == 3:
            raise module.Bare("not even an Exception")  # type: ignore[attr-defined]
        if item == 4:
            raise ValueError("x" * 5_000_000)
        return item

    return work


async def test_exceptions_that_the_client_cannot_import_or_print(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(strange_errors(), range(6), local, None, here, 1)
    error = caught.value
    assert error.results == [0, None, None, None, None, 5]
    told = {task.task_id: task.exception for task in error.failed}
    assert told[1][0] == "only_there.Odd"
    assert "from afar" in told[1][1]
    assert told[2] is not None
    assert told[2][:2] == ("only_there.Mute", "<str() of the exception raised RuntimeError>")
    assert told[3][:2] == ("only_there.Bare", "not even an Exception")
    assert told[4][1].startswith("xxx")
    assert len(str(error)) < 10_000
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.results) == (str(error), error.results)
    assert again.failed == error.failed


async def test_results_that_cannot_be_read_here_keep_their_bytes(
    local: shoal.Local, here: shoal.Deployment
) -> None:
    def work(item: int) -> Any:
        import sys
        import types

        if item != 1:
            return item
        sys.modules["not_here"] = module = types.ModuleType("not_here")
        exec("class Thing: pass", module.__dict__)
        module.Thing.__module__ = "not_here"  # type: ignore[attr-defined]
        thing = module.Thing()  # type: ignore[attr-defined]
        thing.data = b"x" * 100_000  # so that it lies beside the ledger
        return thing

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(work, range(3), local, None, here, 1)
    assert caught.value.results == [0, None, 2]
    [failed] = caught.value.failed
    assert failed.state == "RESULT_CANNOT_BE_UNPICKLED"
    assert isinstance(failed.result, bytes)
    assert b"x" * 100_000 in failed.result
    assert "not_here" in str(caught.value)


def test_half_a_gigabyte_is_in_the_clients_memory_twice_at_the_most(tmp_path: Path) -> None:
    """As bytes and as a value; in a process of its own, whose peak tells."""
    program = f"""
        import resource, shoal
        from shoal import blocking
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if __name__ == "__main__":
            host = shoal.Local({str(tmp_path / "bucket")!r})
            here = shoal.Deployment()
            blocking.run_function(len, host, None, here, [b""])
            before = peak()
            result = blocking.run_function(lambda: b"x" * 500_000_000, host, None, here)
            assert len(result) == 500_000_000 and result[-1:] == b"x"
            print((peak() - before) // 1_000_000)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1100
