"""Writes `shoal.blocking` from the asynchronous API, so that there is one implementation.

python -m shoal.blocking_gen           # write it
python -m shoal.blocking_gen --check   # fail if it is not what would be written
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "blocking.py"
HEAD = '''"""The same functions for code without an event loop; they also work inside a notebook.

    from shoal import blocking

    blocking.run_map(f, items, shoal.Kubernetes())

Generated from `shoal.api` and `shoal.handle` by ``python -m shoal.blocking_gen``: change those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from shoal import api, loop_thread
from shoal import handle as asynchronous
from shoal.arguments import AnyDeployment, Containers, Ports
from shoal.hosts import Host
from shoal.results import TaskResult
from shoal.sizing import Resources

if TYPE_CHECKING:
    from shoal.resources import JobStatus, MapJobStatus

T = TypeVar("T")
U = TypeVar("U")
'''
HANDLE_HEAD = '''

class JobHandle:
    """What the submit functions and `attach` return; see `shoal.JobHandle`."""

    def __init__(self, run: asynchronous.JobHandle) -> None:
        self._handle = run

    def __repr__(self) -> str:
        return repr(self._handle)
'''


def text() -> str:
    """Return the module's source."""
    parts = [HEAD, *_functions(ast.parse((HERE / "api.py").read_text())), HANDLE_HEAD]
    parts += _methods(ast.parse((HERE / "handle.py").read_text()))
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    source = "\n".join(parts)
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    return done.stdout


def _functions(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            call = f"api.{node.name}({_passed_on(node.args)})"
            returns = ast.unparse(node.returns) if node.returns else "None"
            if returns == "TasksAsCompleted":
                returns, call = "Iterator[TaskResult[Any]]", f"loop_thread.iterate(aiter({call}))"
            else:
                call = f"loop_thread.run({call})"
            if returns == "JobHandle":
                call = f"JobHandle({call})"
            pointer = f"See `shoal.{node.name}` for arguments and errors."
            doc = f"{_first_line(node)}\n\n    {pointer}\n    "
            yield (
                f"\ndef {node.name}({ast.unparse(node.args)}) -> {returns}:\n"
                f'    """{doc}"""\n    return {call}\n'
            )


def _methods(module: ast.Module) -> Iterator[str]:
    handle = next(node for node in module.body if isinstance(node, ast.ClassDef))
    for node in handle.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name[0] == "_":
            continue
        returns = ast.unparse(node.returns) if node.returns else "None"
        if node.decorator_list:
            head, call = "    @property\n", f"self._handle.{node.name}"
        else:
            head, call = "", f"self._handle.{node.name}({_passed_on(node.args)})"
            if returns.startswith("AsyncGenerator"):
                returns = (
                    f"Iterator[{returns.removeprefix('AsyncGenerator[').removesuffix(', None]')}]"
                )
                call = f"loop_thread.iterate({call})"
            else:
                call = f"loop_thread.run({call})"
        body = call if returns == "None" else f"return {call}"
        yield (
            f"{head}    def {node.name}({ast.unparse(node.args)}) -> {returns}:\n"
            f'        """{_first_line(node)}"""\n        {body}\n'
        )


def _passed_on(args: ast.arguments) -> str:
    names = [arg.arg for arg in [*args.args, *args.kwonlyargs] if arg.arg != "self"]
    return ", ".join(f"{name}={name}" for name in names)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def main() -> int:
    """Write or check."""
    new = text()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(new)
        return 0
    if TARGET.exists() and TARGET.read_text() == new:
        return 0
    print(f"{TARGET} is not up to date: run `python -m shoal.blocking_gen`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
