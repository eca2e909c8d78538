"""Finds the awaits of modules, and loads the modules with a point before and after each.

A point's name is `module:line:column:what:side`. `what` is `await`, `enter` and `exit` of an
`async with`, or `next` of an `async for`; the side is `before` or `after`. They are found in the
source each time, so that a new await is covered by itself.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from . import trigger

DISPATCHER = ("shoal.dispatch", "shoal.ledger_reader")
"""What the operator and the Local host share."""
OPERATOR = (*DISPATCHER, "shoal.kube.client", "shoal.kube.config", "shoal_operator")
"""All in which the operator waits; a package stands for its modules."""
NOT_RUN = frozenset({"shoal_operator.cleanup"})
"""Another command's modules: the operator never loads them."""


@dataclass(frozen=True)
class Point:
    """One side of one await."""

    name: str
    where: str
    """The function, as `Class.method`."""
    text: str
    """What is awaited, in one line."""

    @property
    def module(self) -> str:
        """The module's name."""
        return self.name.split(":")[0]

    @property
    def side(self) -> str:
        """`before` or `after`."""
        return self.name.rsplit(":", 1)[1]


def points_of(names: Sequence[str]) -> list[Point]:
    """The points of modules and packages, in the order of the source."""
    return [
        point
        for module, path in sorted(modules_of(names))
        for point in points_in(module, path.read_text())
    ]


def modules_of(names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Name and file of each module; a package stands for its modules."""
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(name)
        path = Path(spec.origin)
        if not spec.submodule_search_locations:
            yield name, path
            continue
        for file in path.parent.glob("*.py"):
            module = name if file.stem == "__init__" else f"{name}.{file.stem}"
            if module not in NOT_RUN:
                yield module, file


def points_in(module: str, source: str) -> list[Point]:
    """The points of one module."""
    instrument = _Instrument(module)
    instrument.visit(ast.parse(source))
    return instrument.points


def instrumented(module: str, source: str | bytes, path: str) -> CodeType:
    """Compile a module with its points."""
    tree = _Instrument(module).visit(ast.parse(source, path))
    return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Instrument(ast.NodeTransformer):
    """Wraps what is awaited; evaluation order, values and exceptions stay as they are."""

    def __init__(self, module: str) -> None:
        self.points: list[Point] = []
        self._module = module
        self._scope: list[str] = []

    def visit_Await(self, node: ast.Await) -> ast.AST:
        spot = self._add(node, node.value, "await")
        self.generic_visit(node)
        node.value = _call("around", spot, node.value)
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        for item in node.items:
            spot = self._add(item.context_expr, item.context_expr, "enter")
            self._add(item.context_expr, item.context_expr, "exit")
            item.context_expr = _call("Context", spot, self.visit(item.context_expr))
            if item.optional_vars is not None:
                item.optional_vars = self.visit(item.optional_vars)
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        spot = self._add(node, node.iter, "next")
        self.generic_visit(node)
        node.iter = _call("Stream", spot, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if node.is_async:
            spot = self._add(node.iter, node.iter, "next")
            self.generic_visit(node)
            node.iter = _call("Stream", spot, node.iter)
        else:
            self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._named(node, node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._named(node, node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._named(node, node.name)

    def _named(self, node: ast.AST, name: str) -> ast.AST:
        self._scope.append(name)
        self.generic_visit(node)
        self._scope.pop()
        return node

    def _add(self, at: ast.expr | ast.stmt, what: ast.expr, kind: str) -> str:
        """Note both points of an await; return the name that they share, less kind and side."""
        spot = f"{self._module}:{at.lineno}:{at.col_offset}"
        text = " ".join(ast.unparse(what).split())
        for side in ("before", "after"):
            self.points.append(Point(f"{spot}:{kind}:{side}", ".".join(self._scope), text))
        return spot


def _call(function: str, spot: str, value: ast.expr) -> ast.expr:
    attribute = ast.Attribute(ast.Name(trigger.NAME, ast.Load()), function, ast.Load())
    return ast.copy_location(ast.Call(attribute, [ast.Constant(spot), value], []), value)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads from the source, and neither reads nor writes bytecode files."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return instrumented(fullname, self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, trigger.NAME, trigger)
        super().exec_module(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are to have points."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def covers(self, fullname: str) -> bool:
        """Tell whether a module is to have points."""
        return any(fullname == name or fullname.startswith(f"{name}.") for name in self._names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec with the loader that adds points, or None."""
        if not self.covers(fullname):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def install(names: Sequence[str]) -> None:
    """Load these modules with points from now on.

    Raises:
        RuntimeError: one of them is loaded already, and would have none.
    """
    finder = Finder(names)
    loaded = [name for name in sys.modules if finder.covers(name)]
    if loaded:
        raise RuntimeError(f"loaded without points: {', '.join(loaded)}")
    sys.meta_path.insert(0, finder)
