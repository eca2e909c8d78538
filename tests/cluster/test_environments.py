"""Packages that are installed once, in a builder Pod, and found by every worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import cloudpickle
import pytest
from chaos import run
from gates import Gate
from namespaces import Place, condition, finished
from package_index import serve, wheel

import shoal
from shoal.errors import EnvironmentFailed
from shoal.kube import DEPLOYMENTS, JOBS

cloudpickle.register_pickle_by_value(sys.modules[__name__])

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = f"docker.io/library/python:{PYTHON}-slim"
GREETING = {"greeting.py": "from tone import TONE\ndef main():\n    print('hello', TONE)\n"}
WHEELS = dict(
    [
        wheel("greeting", "1.0", GREETING, needs="tone>=2", script="greet = greeting:main"),
        wheel("greeting", "1.1", GREETING, needs="tone>=2", script="greet = greeting:main"),
        wheel("tone", "2.0", {"tone.py": "TONE = 'softly'\n"}),
        wheel("tone", "2.1", {"tone.py": "TONE = 'loudly'\ndef say(): return TONE\n"}),
    ]
)


@pytest.fixture
async def index(user: Place) -> str:
    """The option that names the namespace's own index."""
    return f"--index-url {await serve(user, WHEELS, IMAGE)}"


def requirements(folder: Path, *lines: str) -> shoal.PipRequirementsFile:
    path = folder / "requirements.txt"
    path.write_text("\n".join(lines) + "\n")
    return shoal.PipRequirementsFile(str(path), PYTHON)


def tone() -> str:
    import tone as package

    return str(package.TONE)


def versions() -> tuple[str, str, str]:
    import importlib.metadata as metadata
    import sys

    return metadata.version("greeting"), metadata.version("tone"), sys.prefix


async def builds(place: Place) -> list[str]:
    found = await place.api.list(JOBS, place.namespace)
    named = [one for one in found["items"] if one["spec"].get("function", {}).get("name")]
    return [one["metadata"]["name"] for one in named]


async def test_pinned_packages_and_their_console_scripts(
    user: Place, index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter = requirements(tmp_path, index, "greeting==1.0", "tone == 2.0  # the old one")
    here = shoal.Deployment(interpreter)
    assert await shoal.run_function(versions, user.host(), None, here) == (
        "1.0",
        "2.0",
        "/shoal/environment",
    )
    assert "+ greeting==1.0" in capsys.readouterr().err  # who waits sees what is done
    assert await shoal.run_map(lambda n: (n, *versions()[:2]), [1, 2], user.host(), None, here) == [
        (1, "1.0", "2.0"),
        (2, "1.0", "2.0"),
    ]
    await shoal.run_command("greet", user.host(), None, here)
    assert "hello softly" in capsys.readouterr().out
    (build,) = await builds(user)
    status = await user.get("Job", build)
    (name,) = {d["metadata"]["name"] for d in await deployments(user)}
    told = (await user.get("Deployment", name))["status"]
    assert told["environment"]["phase"] == "Ready"
    assert told["environment"]["sha256"] == status["status"]["result"]["sha256"]
    assert condition(told, "EnvironmentReady")["status"] == "True"
    assert "greeting==1.0" in await log(user, build)


async def test_many_jobs_at_once_build_once(user: Place, index: str, tmp_path: Path) -> None:
    here = shoal.Deployment(requirements(tmp_path, index, "greeting"))
    runs = [shoal.run_function(versions, user.host(), None, here) for _ in range(20)]
    assert {found[:2] for found in await asyncio.gather(*runs)} == {("1.1", "2.1")}
    assert len(await builds(user)) == 1


async def test_an_environment_of_this_machine(
    user: Place, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is installed in a virtual environment here is installed there."""
    for name, data in WHEELS.items():
        (tmp_path / name).write_bytes(data)
    python = tmp_path / "venv" / "bin" / "python"
    await run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    uv = ("uv", "pip", "install", "--quiet", "--offline", "--python", str(python))
    await run(*uv, "--find-links", str(tmp_path), "greeting==1.0", "tone==2.1")
    monkeypatch.setenv("SHOAL_PACKAGE_INDEX", index.split()[1])
    here = shoal.Deployment.mirror_local(interpreter=shoal.LocalPipInterpreter(str(python)))
    found = await shoal.run_function(versions, user.host(), None, here)
    assert found[:2] == ("1.0", "2.1")


async def test_what_cannot_be_installed_is_told_in_the_installers_words(
    user: Place, index: str, tmp_path: Path
) -> None:
    here = shoal.Deployment(requirements(tmp_path, index, "greeting==7.0"))
    with pytest.raises(EnvironmentFailed, match=r"greeting==7\.0") as told:
        await shoal.run_function(versions, user.host(), None, here)
    assert "unsatisfiable" in str(told.value)
    (build,) = await builds(user)
    assert f"jobs.shoal.dev/{build}" in str(told.value)
    first = (await user.get("Job", build))["metadata"]["uid"]
    with pytest.raises(EnvironmentFailed, match="unsatisfiable"):  # it was tried anew
        await shoal.run_function(versions, user.host(), None, here)
    assert (await user.get("Job", build))["metadata"]["uid"] != first


async def test_workers_of_one_job_alone(user: Place, index: str, tmp_path: Path) -> None:
    here = shoal.Deployment(requirements(tmp_path, index, "tone==2.0"))
    alone = user.host(reusable_pods=False)
    assert await shoal.run_function(tone, alone, None, here) == "softly"
    await user.until_pods(lambda pods: all("deletionTimestamp" in p["metadata"] for p in pods))


async def test_a_build_that_somebody_deletes_is_made_again(
    user: Place, index: str, tmp_path: Path, gate: Gate
) -> None:
    wait = gate.wait
    here = shoal.Deployment(requirements(tmp_path, index, "tone==2.0"))

    def slow(n: int) -> str:
        wait()
        return tone()

    handle = await shoal.submit_map(slow, range(2), user.host(), None, here, 1)
    await user.until("MapJob", handle.name, lambda s: s.get("workers", {}).get("ready"))
    (build,) = await builds(user)
    first = (await user.get("Job", build))["metadata"]["uid"]
    await user.api.delete(JOBS, build, user.namespace)
    await user.until("Job", build, finished)
    await handle.set_parallelism(2)
    await user.until("MapJob", handle.name, lambda s: s.get("workers", {}).get("ready") == 2)
    assert (await user.get("Job", build))["metadata"]["uid"] != first
    await gate.open()
    assert await handle.result() == ["softly", "softly"]


async def test_a_manifest_with_packages_and_warm_workers(user: Place, index: str) -> None:
    await user.apply(
        "Deployment",
        "tools",
        {"python": PYTHON, "minWorkers": 1, "environment": {"requirements": [index, "tone"]}},
    )
    status = await user.until("Deployment", "tools", lambda s: s.get("readyReplicas"))
    assert status["environment"]["phase"] == "Ready"
    spec = {"function": {"name": "tone.say"}, "deployment": {"ref": "tools"}}
    done = await user.run("Job", "loud", spec)
    assert done.get("result") == "loudly", done


async def deployments(place: Place) -> list[dict[str, object]]:
    return list((await place.api.list(DEPLOYMENTS, place.namespace))["items"])


async def log(place: Place, name: str) -> str:
    return await shoal.logs(name, place.host())
