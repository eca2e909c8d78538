"""The user's code on a cluster: many parts become one folder, and a change sends one of them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from namespaces import Place, bucket

import shoal
from shoal.errors import InputsNotFound
from shoal.kube import CONFIGMAPS
from shoal.storage import S3Storage

FILES = 60


class Bucket:
    """The code of one namespace in the bucket."""

    def __init__(self, storage: S3Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder

    def digests(self) -> set[str]:
        return {info.key.rpartition("/")[2] for info in self.storage.list(self.folder)}


@pytest.fixture
async def stored(place: Place, bucket_key: str) -> Bucket:
    told = (await place.api.get(CONFIGMAPS, "shoal", place.namespace))["data"]
    folder = f"{told['clusterId']}/{place.namespace}/code/"
    return Bucket(await bucket(place.api), folder)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: 6 MB in many files, and a large one."""
    noise = random.Random(0)
    for number in range(FILES):
        path = tmp_path / f"folder{number % 7}" / f"data{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1" + noise.randbytes(100_000))
    (tmp_path / "large.bin").write_bytes(b"1" + noise.randbytes(3_000_000))
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def mirrored() -> shoal.Deployment:
    return await shoal.Deployment.mirror_local(include_sys_path=False, globs="**/*.bin")


async def call(place: Place, deployment: shoal.Deployment) -> Any:
    """Count the files and their bytes in a Pod, and name those that do not begin with a 1."""

    def looking() -> Any:
        from pathlib import Path

        files = {path.name: path.read_bytes() for path in Path().rglob("*.bin")}
        changed = [name for name, data in files.items() if data[:1] != b"1"]
        return len(files), sum(map(len, files.values())), changed

    return await shoal.run_function(looking, place.host(), deployment=deployment)


async def test_a_changed_file_sends_one_object_and_the_next_run_sees_it(
    place: Place, stored: Bucket, tree: Path
) -> None:
    size = FILES * 100_001 + 3_000_001
    first = await mirrored()
    assert await call(place, first) == (FILES + 1, size, [])
    before = stored.digests()
    assert len(before) == 9  # eight of many files, and the large one
    assert first.code is not None
    assert before == {part.sha256 for part in first.code.parts}

    (tree / "folder3" / "data10.bin").write_bytes(b"2" + bytes(10))
    second = await mirrored()
    assert await call(place, second) == (FILES + 1, size - 100_001 + 11, ["data10.bin"])
    (new,) = stored.digests() - before
    sent = stored.storage.info(stored.folder + new)
    assert sent is not None
    assert sent.size < size / 5

    assert await call(place, await mirrored()) == (FILES + 1, size - 99_990, ["data10.bin"])
    assert stored.digests() == before | {new}


async def test_kubectl_shows_how_large_the_code_is(
    place: Place, stored: Bucket, tree: Path
) -> None:
    deployment = await mirrored()
    handle = await shoal.submit_function(len, place.host(), deployment=deployment, args=["abc"])
    assert await handle.result() == 3
    name = (await place.get("Job", handle.name))["status"]["deploymentName"]
    status = await place.until("Deployment", name, lambda status: "codeSize" in status)
    assert deployment.code is not None
    assert status["codeSize"] == deployment.code.size
    shown = await _kubectl("get", f"deployments.shoal.dev/{name}", "-n", place.namespace)
    header, row = shown.splitlines()
    column = slice(header.index("CODE"), header.index("ENVIRONMENT"))
    assert row[column].strip() == str(deployment.code.size)


async def _kubectl(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "kubectl", *words, "-o", "wide", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_a_part_that_was_deleted_is_named_and_goes_up_again(
    place: Place, stored: Bucket, tree: Path
) -> None:
    deployment = await mirrored()
    assert await call(place, deployment) == (FILES + 1, FILES * 100_001 + 3_000_001, [])
    gone = sorted(stored.digests())[4]
    stored.storage.delete(stored.folder + gone)
    host = place.host(reusable_pods=False)  # a Pod that does not have the code yet
    with pytest.raises(InputsNotFound, match=gone):
        await shoal.run_function(lambda: 1, host, deployment=deployment)
    assert await shoal.run_function(lambda: 1, host, deployment=deployment) == 1
    assert gone in stored.digests()
