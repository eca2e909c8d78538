"""What runs on the cluster: one source file in, its measures out.

This module is sent along by `mirror_local` (the default), because it lies beside the script that
submits the map. It needs the standard library only.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass

NESTING = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.Match,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.BoolOp,
    ast.match_case,
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """A file: the dotted name of its module, and its bytes."""

    module: str
    text: bytes

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Function:
    """A function or method: where it is, lines, deepest nesting inside, branches."""

    name: str
    lines: int
    nesting: int
    branches: int


@dataclass(frozen=True)
class Measures:
    """What one file has; the four kinds of lines add up to `lines`."""

    module: str
    lines: int
    code: int
    docstrings: int
    comments: int
    blank: int
    classes: int
    functions: tuple[Function, ...]

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def measure(source: Source) -> Measures:
    """Parse one file and measure it."""
    tree = ast.parse(source.text)
    text = source.text.decode(tokenize.detect_encoding(io.BytesIO(source.text).readline)[0])
    lines = text.splitlines()
    docstrings = docstring_lines(tree)
    blank, comments = 0, 0
    for number, line in enumerate(lines, 1):
        if number in docstrings:
            continue
        stripped = line.strip()
        blank += not stripped
        comments += stripped.startswith("#")
    found: list[Function] = []
    classes = visit(tree, source.module, 0, found)
    return Measures(
        module=source.module,
        lines=len(lines),
        code=len(lines) - len(docstrings) - comments - blank,
        docstrings=len(docstrings),
        comments=comments,
        blank=blank,
        classes=classes,
        functions=tuple(found),
    )


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that docstrings take."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found


def visit(node: ast.AST, name: str, classes: int, found: list[Function]) -> int:
    """Add the functions below a node to `found`; return the number of classes so far."""
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, (ast.ClassDef, *FUNCTIONS)):
            inner = f"{name}.{child.name}"
        if isinstance(child, FUNCTIONS):
            length = (child.end_lineno or child.lineno) - child.lineno + 1
            branches = sum(isinstance(each, BRANCHES) for each in ast.walk(child))
            found.append(Function(inner, length, depth(child), branches))
        classes += isinstance(child, ast.ClassDef)
        classes = visit(child, inner, classes, found)
    return classes


def depth(node: ast.AST) -> int:
    """Return how many blocks stand inside each other below a node (an elif is no deeper)."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and [child] == node.orelse and is_at(child, node)
        own = isinstance(child, NESTING) and not is_elif
        deepest = max(deepest, own + depth(child))
    return deepest


def is_at(child: ast.AST, node: ast.If) -> bool:
    """Tell whether a child begins in the column of its `if`, as an elif does."""
    return isinstance(child, ast.If) and child.col_offset == node.col_offset
