"""What the demo shows: a table by package, and a chart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Function, Measures

SHOWN = 15
NAMED = 8


@dataclass(frozen=True)
class Package:
    """The sums over one top-level package; a module that stands alone is one, too."""

    name: str
    files: int
    lines: int
    code: int
    docstrings: int
    comments: int
    blank: int
    classes: int
    functions: tuple[Function, ...]

    @property
    def longest(self) -> Function | None:
        return max(self.functions, key=lambda function: function.lines, default=None)

    @property
    def nesting(self) -> int:
        return max((function.nesting for function in self.functions), default=0)


def by_package(measures: Iterable[Measures]) -> list[Package]:
    """Add up, the largest package first; the same whatever order the results came in."""
    groups = defaultdict(list)
    for each in sorted(measures, key=lambda each: each.module):
        groups[each.package].append(each)
    packages = [added_up(name, group) for name, group in groups.items()]
    return sorted(packages, key=lambda package: -package.lines)


def added_up(name: str, group: Sequence[Measures] | Sequence[Package]) -> Package:
    """Add up the files of a package, or packages."""
    return Package(
        name=name,
        files=sum(getattr(each, "files", 1) for each in group),
        lines=sum(each.lines for each in group),
        code=sum(each.code for each in group),
        docstrings=sum(each.docstrings for each in group),
        comments=sum(each.comments for each in group),
        blank=sum(each.blank for each in group),
        classes=sum(each.classes for each in group),
        functions=tuple(function for each in group for function in each.functions),
    )


def table(packages: Sequence[Package]) -> str:
    """Return the largest packages, the others in one line, and the sum."""
    rows = list(packages[:SHOWN])
    if rest := packages[SHOWN:]:
        rows.append(added_up(f"{len(rest)} others", rest))
    rows.append(added_up("all", packages))
    head = ("package", "files", "lines", "functions", "classes", "nesting", "longest function", "")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for number, row in enumerate(cells):
        if number in (1, len(cells) - 1):
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
        texts = [
            cell.ljust(width) if column in (0, 6) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(texts).rstrip())
    return "\n".join(lines)


def _cells(package: Package) -> tuple[str, ...]:
    longest = package.longest
    counts = (package.files, package.lines, len(package.functions), package.classes)
    return (
        package.name,
        *(f"{count:,}" for count in counts),
        str(package.nesting),
        longest.name if longest else "",
        f"{longest.lines:,} lines" if longest else "",
    )


def chart(packages: Sequence[Package], path: Path, title: str) -> None:
    """Draw what the packages consist of, and each function's length and branches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6.2), layout="constrained")
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")

    shown = list(reversed(packages[:SHOWN]))
    names = [package.name for package in shown]
    starts = [0] * len(shown)
    kinds = (
        ("code", "#2b5c8a"),
        ("docstrings", "#6fa8c9"),
        ("comments", "#c3d9e6"),
        ("blank", "#e8e8e8"),
    )
    for kind, color in kinds:
        counts = [getattr(package, kind) for package in shown]
        left.barh(names, counts, left=starts, color=color, label=kind, height=0.72)
        starts = [start + count for start, count in zip(starts, counts, strict=True)]
    for name, end, package in zip(names, starts, shown, strict=True):
        left.annotate(
            f"{package.files} file{'s' if package.files > 1 else ''}",
            (end, name),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#666666",
        )
    left.set_title(f"Lines of the {len(shown)} largest packages", fontsize=11, loc="left")
    left.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    left.margins(x=0.12)
    left.legend(loc="lower right", frameon=False, fontsize=9)

    functions = [function for package in packages for function in package.functions]
    dots = right.scatter(
        [function.lines for function in functions],
        [function.branches + 1 for function in functions],
        c=[min(function.nesting, 8) for function in functions],
        cmap="viridis_r",
        s=9,
        alpha=0.55,
        linewidths=0,
    )
    right.set_xscale("log")
    right.set_yscale("log")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    right.set_xlabel("lines")
    right.set_ylabel("paths (branches + 1)")
    right.set_title(f"{len(functions):,} functions, length and branches", fontsize=11, loc="left")
    outstanding = sorted(functions, key=lambda each: -each.branches)[:NAMED]
    for number, function in enumerate(outstanding):
        right.annotate(
            function.name,
            (function.lines, function.branches + 1),
            xytext=(0.62, 0.97 - 0.034 * number),
            textcoords="axes fraction",
            ha="right",
            va="center",
            fontsize=8,
            arrowprops={
                "arrowstyle": "-",
                "color": "#999999",
                "linewidth": 0.6,
                "relpos": (1, 0.5),
                "shrinkB": 2,
            },
        )
    bar = figure.colorbar(dots, ax=right, pad=0.01, aspect=40)
    bar.solids.set_alpha(1)
    bar.set_label("blocks inside each other (8 or more)", fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
