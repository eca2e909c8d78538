"""What the user's code costs: 50 MB of it sent, and sent again after one file has changed."""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import shoal
from shoal import code_upload, discovery
from shoal.kube import NAMESPACES, Client
from shoal.storage import Storage

sys.path.append(str(Path(__file__).parents[1] / "tests" / "cluster"))

from namespaces import give_key, make_place

FILES, SIZE = 2500, 20_000
"""Files of the tree, and bytes of each: hexadecimal digits, of which half remain when packed."""


class Figures(NamedTuple):
    """Medians of what the first upload and the one after a change took."""

    seconds: float
    seconds_again: float
    """Looking at the files, packing and uploading."""
    size: float
    size_again: float
    """Bytes that came into the bucket."""

    @property
    def seconds_to_first(self) -> float:
        """Return the second upload's time against the first one's."""
        return self.seconds_again / self.seconds

    @property
    def size_to_first(self) -> float:
        """Return the second upload's bytes against the first one's."""
        return self.size_again / self.size


async def measure(api: Client, times: int) -> Figures:
    """Measure in a namespace of its own, each time with another tree."""
    made = await make_place(api, "bench")
    try:
        await give_key(made)
        place = await discovery.find(api, made.host())
        storage = await place.bucket(api, "the benchmark")
        rows = [await _once(storage, place.prefix, turn) for turn in range(times)]
    finally:
        await api.delete(NAMESPACES, made.namespace)
    return Figures(*[statistics.median(column) for column in zip(*rows, strict=True)])


async def _once(storage: Storage, prefix: str, turn: int) -> tuple[float, float, int, int]:
    with _tree(turn) as folder:
        try:
            seconds = await _send(folder, storage, prefix)
            size = _size(storage, prefix)
            (folder / "folder7" / "m7.py").write_text("changed = True\n")
            seconds_again = await _send(folder, storage, prefix)
            return seconds, seconds_again, size, _size(storage, prefix) - size
        finally:
            storage.delete(*[info.key for info in storage.list(f"{prefix}/code/")])


async def _send(folder: Path, storage: Storage, prefix: str) -> float:
    began = time.perf_counter()
    deployment = await shoal.Deployment.mirror_local(
        include_sys_path=False, additional_sys_paths=str(folder)
    )
    if deployment.code is None:
        raise AssertionError("mirror_local took no code")
    code_upload.upload(deployment.code, storage, prefix)
    return time.perf_counter() - began


def _size(storage: Storage, prefix: str) -> int:
    return sum(info.size for info in storage.list(f"{prefix}/code/"))


@contextmanager
def _tree(seed: int) -> Iterator[Path]:
    noise = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        for number in range(FILES):
            path = Path(name, f"folder{number % 50}", f"m{number}.py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"# {noise.randbytes(SIZE // 2).hex()}\n")
        yield Path(name)
