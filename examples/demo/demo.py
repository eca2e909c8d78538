"""A map over the source files of Python's own standard library.

    python examples/demo/demo.py            on the cluster that KUBECONFIG names
    python examples/demo/demo.py --local    on this machine, without a cluster

Each file is one item: it goes through the bucket to a worker, which parses it with `ast` and
returns its measures (`measure.py`). This process adds them up and shows them (`report.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

import report
from measure import Measures, Source, measure

import shoal

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


def standard_library() -> list[Source]:
    """Read this Python's standard library, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    sources = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not LEFT_OUT.intersection(parts):
            names = parts[:-1] if parts[-1] == "__init__" else parts
            sources.append(Source(".".join(names) or "__init__", path.read_bytes()))
    return sources


class Clock:
    """Prints how long each step took."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def step(self, said: str) -> None:
        now = time.perf_counter()
        print(f"[{now - self._last:6.2f} s] {said}", flush=True)
        self._last = now

    def total(self) -> float:
        return time.perf_counter() - self._start


async def measured(
    sources: list[Source], host: shoal.Host, workers: int, clock: Clock
) -> tuple[list[Measures], Counter[tuple[str, str]]]:
    """Run the map; return the measures, and how many files each (Pod, node) took."""
    tasks = await shoal.run_map_as_completed(
        measure, sources, host, num_concurrent_tasks=workers, max_num_task_attempts=2
    )
    clock.step("the items are in the bucket, and the map is submitted")
    found: list[Measures] = []
    places: Counter[tuple[str, str]] = Counter()
    bar = sys.stderr is not None and sys.stderr.isatty()  # then shoal shows one itself
    async for task in tasks:
        found.append(task.result_or_raise())
        places[task.pod, task.node] += 1
        if len(found) == 1:
            clock.step("the first result is back")
        if not bar and len(found) * 5 // len(sources) > (len(found) - 1) * 5 // len(sources):
            print(f"           {len(found)}/{len(sources)} files", flush=True)
    clock.step(f"all {len(found)} results are back")
    return found, places


async def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Python's standard library, in parallel.")
    parser.add_argument("--local", action="store_true", help="run on this machine")
    parser.add_argument("--workers", type=int, default=4, help="workers at one time (4)")
    parser.add_argument("--chart", type=Path, default=Path("demo.png"), help="where the chart goes")
    chosen = parser.parse_args()
    host = shoal.Local() if chosen.local else shoal.Kubernetes()

    clock = Clock()
    sources = standard_library()
    size = sum(len(source.text) for source in sources)
    version = ".".join(str(part) for part in sys.version_info[:3])
    clock.step(f"read {len(sources)} files ({size / 1e6:.1f} MB) of Python {version}")
    measures, places = await measured(sources, host, chosen.workers, clock)
    packages = report.by_package(measures)
    nodes = len({node for _, node in places})
    title = f"Python {version}'s standard library, by {len(places)} workers on {nodes} node(s)"
    report.chart(packages, chosen.chart, title)
    clock.step(f"the chart is in {chosen.chart}")

    print(f"\n{report.table(packages)}\n")
    for (pod, node), count in sorted(places.items()):
        print(f"{count:5} files by {pod or 'a worker'}{f' on {node}' if node else ''}")
    print(f"\n{clock.total():.2f} s in all")


if __name__ == "__main__":
    asyncio.run(main())
