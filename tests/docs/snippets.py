"""Finds the snippets of a Markdown page: fenced blocks, and what is said of them.

A comment on the line before a block says how it is tested: `<!-- test: read -->` is for shell
lines that can't be run here (they push images, install in other clusters), `values` for values of
the chart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<how>\w+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    language: str
    how: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def of(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["how"] or "",
            match["text"],
        )
        for match in _BLOCK.finditer(text)
    ]


def every(*languages: str, how: str | None = None) -> list[Snippet]:
    return [
        snippet
        for page in PAGES
        for snippet in of(page)
        if snippet.language in languages and (how is None or snippet.how == how)
    ]
