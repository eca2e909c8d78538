"""What packages cost: until they are installed, and for a worker that begins with them.

The packages are made up: 30 wheels of 2 MB that do not compress, from an index in the same cluster,
so that neither a download from outside nor the packages' own install is measured.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cloudpickle

import shoal
from shoal.kube import NAMESPACES, Client

sys.path.append(str(Path(__file__).parents[1] / "tests" / "cluster"))

import package_index
from namespaces import Place, give_key, make_place

cloudpickle.register_pickle_by_value(sys.modules[__name__])

PACKAGES = 30
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
FILES = """
import io, os, zipfile
def wheel(name):
    info, buffer = name + "-1.0.dist-info/", io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr(name + "/__init__.py", "")
        made.writestr(name + "/data.bin", os.urandom(2_000_000))
        for n in range(20):
            made.writestr(name + "/m%d.py" % n, "def f(x):\\n    return x\\n" * 100)
        made.writestr(
            info + "METADATA", "Metadata-Version: 2.1\\nName: %s\\nVersion: 1.0\\n" % name)
        made.writestr(info + "WHEEL",
            "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr(info + "RECORD", "")
    return buffer.getvalue()
files = {"bulk%d-1.0-py3-none-any.whl" % n: wheel("bulk%d" % n) for n in range(PACKAGES)}
"""


class Figures(NamedTuple):
    """Medians, in seconds; the archive's size in bytes."""

    build: float
    """From a Deployment's creation until its environment is ready."""
    cold: float
    """A call with a Pod of its own, under an environment that is built."""
    alone: float
    """Fetching and unpacking the archive, in a worker that does nothing else."""
    warm: float
    """A call on a worker that has it."""
    plain: float
    """A call on a worker that needs none, in turns with the one before."""
    size: int


async def measure(api: Client, times: int) -> Figures:
    """Measure in a namespace of its own."""
    place = await make_place(api, "bench")
    try:
        await give_key(place)
        image = f"docker.io/library/python:{PYTHON}-slim"
        files = FILES.replace("PACKAGES", str(PACKAGES))
        url = await package_index.serve(place, {}, image, files=files)
        return await _measure(place, url, times)
    finally:
        await api.delete(NAMESPACES, place.namespace)


async def _measure(place: Place, url: str, times: int) -> Figures:
    def lines(turn: int) -> list[str]:
        names = [f"bulk{(turn + n) % PACKAGES}==1.0" for n in range(PACKAGES)]
        return [f"--index-url {url}", *names]  # another order is another environment

    builds = []
    for turn in range(min(times, 5)):
        began = time.perf_counter()
        spec = {"python": PYTHON, "environment": {"requirements": lines(turn)}}
        await place.apply("Deployment", f"build-{turn}", spec)
        status = await place.until("Deployment", f"build-{turn}", _is_built, seconds=300)
        builds.append(time.perf_counter() - began)
    with _written(lines(0)) as path:
        here, nothing = (
            shoal.Deployment(shoal.PipRequirementsFile(path, PYTHON)),
            shoal.Deployment(),
        )

        async def call(deployment: shoal.Deployment = here, *, reusable: bool) -> float:
            host = place.host(reusable_pods=reusable)
            began = time.perf_counter()
            await shoal.run_function(lambda: 1, host, deployment=deployment)
            return time.perf_counter() - began

        async def alone() -> float:
            return float(await shoal.run_function(_fetch_and_unpack, place.host(), None, here))

        for deployment in (here, nothing):
            await call(deployment, reusable=True)
        # before the cold ones, whose Pods are still being taken down for a while
        both = [
            (await call(reusable=True), await call(nothing, reusable=True))
            for _ in range(2 * times)
        ]
        bare = [await alone() for _ in range(times)]
        cold = [await call(reusable=False) for _ in range(times)]
    median = statistics.median
    warm, plain = (median(taken) for taken in zip(*both, strict=True))
    size = int(status["environment"]["size"])
    return Figures(median(builds), median(cold), median(bare), warm, plain, size)


@contextmanager
def _written(lines: list[str]) -> Iterator[str]:
    """Write a requirements.txt for the length of a block; its path."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        yield file.name


def _is_built(status: dict[str, object]) -> bool:
    environment = status.get("environment")
    return isinstance(environment, dict) and environment.get("phase") == "Ready"


def _fetch_and_unpack() -> float:
    """Do what a worker does before it begins, into another folder."""
    import os
    import shutil
    import tempfile
    import time

    from _shoal_worker import environment  # type: ignore[import-not-found]

    folder = tempfile.mkdtemp(dir=os.environ["SHOAL_SCRATCH"])
    began = time.perf_counter()
    environment.fetch(os.environ["SHOAL_ENVIRONMENT"], folder + "/archive")
    environment.unpack(folder + "/archive", folder + "/environment")
    taken = time.perf_counter() - began
    shutil.rmtree(folder)
    return taken
