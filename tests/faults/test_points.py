"""Every await has its points, and a module with points does what it does without."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import points, trigger

TESTS = Path(__file__).parents[1]

SAMPLE = '''
"""A docstring."""
from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

log = []


class Gate:
    def __init__(self, swallow=False):
        self.swallow = swallow

    async def __aenter__(self):
        log.append("in")
        return "gate"

    async def __aexit__(self, kind, error, trace):
        log.append(("out", kind))
        return self.swallow


@asynccontextmanager
async def gate():
    try:
        yield await value(7)
    finally:
        await value(8)
        log.append("closed")


async def count(n):
    try:
        for i in range(n):
            yield await value(i)
    finally:
        log.append("counted")


async def value(x):
    await asyncio.sleep(0)
    return x


async def fails():
    raise KeyError("no")


class Awaitable:
    def __await__(self):
        return (yield from value("own").__await__())


class _Private:
    async def mangled(self):
        self.__hidden = await value(1)
        return self.__hidden


async def main():
    log.clear()
    out = [await value(1), await asyncio.ensure_future(value(2)), await Awaitable()]
    out.append(await _Private().mangled())
    out.append((await value(3)) + await value(await value(4)))
    out.append(f"{await value(5)}")
    async with Gate() as a, gate() as b:
        out.append((a, b))
    async with Gate(swallow=True):
        await fails()
    try:
        async with Gate():
            await fails()
    except KeyError as error:
        out.append(repr(error))
    async for x in count(3):
        out.append(x)
    else:
        out.append("else")
    out.append([x async for x in count(4) if await value(x % 2)])
    out.append({y: x async for x in count(2) async for y in count(x + 1)})
    async for x in count(9):
        if x == 1:
            break
    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    out.append((await asyncio.gather(task, return_exceptions=True))[0].__class__)
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        out.append("late")
    return out, list(log)


async def waits():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
'''


def awaits(source: str) -> int:
    """Count the places where a coroutine may be left, by another way than the instrument's."""
    found = 0
    for node in ast.walk(ast.parse(source)):
        found += isinstance(node, ast.Await | ast.AsyncFor)
        found += 2 * len(node.items) if isinstance(node, ast.AsyncWith) else 0
        found += bool(isinstance(node, ast.comprehension) and node.is_async)
    return found


def load(source: str | Any) -> Any:
    space: dict[str, Any] = {trigger.NAME: trigger, "__name__": "sample"}
    exec(source, space)
    return space["main"]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "record"
    trigger.arm(str(path), [])
    yield path
    trigger.disarm()


@pytest.mark.parametrize("names", [points.DISPATCHER, points.OPERATOR], ids=["dispatch", "all"])
def test_every_await_of_the_product_has_two_points(names: tuple[str, ...]) -> None:
    for module, path in points.modules_of(names):
        found = points.points_in(module, path.read_text())
        assert len(found) == 2 * awaits(path.read_text()), module
        assert len({point.name for point in found}) == len(found), module
    assert len(points.points_of(names)) > 50


def test_nothing_that_the_operator_waits_in_is_left_out() -> None:
    """All modules that the operator loads and that wait are its own, or the SDK's that it uses."""
    program = (
        "import sys; import shoal_operator.__main__, shoal_operator.running;"
        "print('\\n'.join(n for n in sys.modules if n.partition('.')[0].startswith('shoal')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    swept = {module for module, _ in points.modules_of(points.OPERATOR)}
    left = []
    for name in done.stdout.split():
        for module, path in points.modules_of([name]):
            if module == name and module not in swept and awaits(path.read_text()):
                left.append(name)
    # clients' only: the operator's watch is kopf's
    assert sorted(left) == ["shoal.kube.shared", "shoal.kube.watching"]


async def test_a_module_with_points_does_what_it_did(record: Path) -> None:
    plain = load(compile(SAMPLE, "sample", "exec"))
    told = await plain()
    assert await load(points.instrumented("sample", SAMPLE, "sample"))() == told
    reached, killed = trigger.read_record(record)
    assert reached == {point.name for point in points.points_in("sample", SAMPLE)}
    assert killed == ""


def test_a_point_names_where_it_is() -> None:
    source = "class A:\n    async def b(self):\n        return await self.c(\n            1)\n"
    before, after = points.points_in("m", source)
    assert (before.name, after.name) == ("m:3:15:await:before", "m:3:15:await:after")
    assert (before.where, before.text, before.module, after.side) == (
        "A.b",
        "self.c(1)",
        "m",
        "after",
    )


@pytest.mark.parametrize(("nth", "steps"), [(1, 1), (3, 3)])
def test_an_armed_point_ends_the_process_at_once(tmp_path: Path, nth: int, steps: int) -> None:
    program = f"""
import asyncio, sys
from faults import trigger
async def main():
    try:
        for i in range(9):
            print(i, flush=True)
            await trigger.around("m:1:1", asyncio.sleep(0))
    finally:
        print("never")
trigger.arm({str(tmp_path / "record")!r}, ["m:1:1:await:after"], nth={nth})
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (137, [str(i) for i in range(steps)])
    reached, killed = trigger.read_record(tmp_path / "record")
    assert killed == "m:1:1:await:after"
    assert reached == {"m:1:1:await:before", "m:1:1:await:after"}


def test_modules_that_are_loaded_already_are_not_passed_over_in_silence() -> None:
    import shoal.dispatch  # noqa: F401

    with pytest.raises(RuntimeError, match=r"shoal\.dispatch"):
        points.install(points.DISPATCHER)


def test_the_dispatchers_own_tests_pass_with_points() -> None:
    program = (
        "import sys, pytest; from faults import points; points.install(points.DISPATCHER);"
        "own = ['-q', '-p', 'no:cacheprovider', 'unit/dispatch/test_dispatcher.py'];"
        "sys.exit(pytest.main(own))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
