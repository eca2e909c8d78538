"""Runs the Python snippets of a page one after the other, as the cells of a notebook.

python notebook.py page.md: top-level await works, and names stay from one snippet to the next. What
begins an event loop itself runs in a thread, since one runs here.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import linecache
import sys
from pathlib import Path

import snippets

import __main__


async def main(page: Path) -> None:
    names = vars(__main__)
    for snippet in snippets.of(page):
        if snippet.language != "python":
            continue
        print(f"--- {snippet}", flush=True)
        shown = str(snippet)
        linecache.cache[shown] = (len(snippet.text), None, snippet.text.splitlines(True), shown)
        code = compile(snippet.text, shown, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "asyncio.run(" in snippet.text:
            await asyncio.to_thread(exec, code, names)
        elif inspect.isawaitable(found := eval(code, names)):
            await found


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
