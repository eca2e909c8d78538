"""Packages that are installed once, in a builder Pod, and found by every worker."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import stat
import sys
from pathlib import Path

import cloudpickle
import package_index
import pytest
from chaos import run
from gates import Gate
from namespaces import Place, condition, finished
from package_index import debian, repository, serve, wheel

import shoal
from shoal.errors import EnvironmentFailed
from shoal.kube import DEPLOYMENTS, JOBS

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = f"docker.io/library/python:{PYTHON}-slim"
GREETING = {"greeting.py": "from tone import TONE\ndef main():\n    print('hello', TONE)\n"}
TONE = """
import ctypes
TONE = 'loudly'
def say():
    return TONE
def library():
    return ctypes.CDLL("libgreet.so.1")._name
"""
GREETER = b"#!/bin/sh\necho hello $1, from Debian\n"
LIBC = f"/lib/{platform.machine()}-linux-gnu/libc.so.6"
DEBIAN = repository(
    debian("greeter", "1.2", {"usr/bin/greet": (GREETER, 0o755)}, needs="libgreet (>= 1.0)"),
    debian("libgreet", "1.0", {"usr/lib/libgreet.so.1": (LIBC.encode(), stat.S_IFLNK)}),
)
WHEELS = dict(
    [
        wheel("greeting", "1.0", GREETING, needs="tone>=2", script="greet = greeting:main"),
        wheel("greeting", "1.1", GREETING, needs="tone>=2", script="greet = greeting:main"),
        wheel("tone", "2.0", {"tone.py": "TONE = 'softly'\n"}),
        wheel("tone", "2.1", {"tone.py": TONE}),
        wheel("windows", "1.0", {}, tag="cp311-cp311-win_amd64"),
        wheel("later", "1.0", {}, python=">=3.99"),
    ]
)
OLD_TONE = hashlib.sha256(WHEELS["tone-2.0-py3-none-any.whl"]).hexdigest()


@pytest.fixture
async def index(user: Place) -> str:
    """The option that names the namespace's own index."""
    return f"--index-url {await serve(user, {**WHEELS, **DEBIAN}, IMAGE)}"


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


@pytest.mark.parametrize(
    ("requirement", "words"),
    [("windows==1.0", "no wheels with a matching"), ("later==1.0", r"Python ?>=3\.99")],
)
async def test_what_is_for_others_is_told_in_the_installers_words(
    user: Place, index: str, tmp_path: Path, requirement: str, words: str
) -> None:
    here = shoal.Deployment(requirements(tmp_path, index, requirement))
    with pytest.raises(EnvironmentFailed, match=words):
        await shoal.run_function(versions, user.host(), None, here)


SCRIPT = """
import sys, tone, shoal.blocking
def said():
    import importlib.metadata as metadata
    return tone.say(), metadata.version("greeting"), sorted(
        {d.metadata["Name"] for d in metadata.distributions()})
if __name__ == "__main__":
    print(shoal.blocking.run_function(said, shoal.Kubernetes(kubernetes_namespace=sys.argv[1])))
"""


async def test_a_job_without_a_deployment_has_what_is_active_here(
    user: Place, index: str, tmp_path: Path
) -> None:
    """Except for Shoal, and what only Shoal needs."""
    for name, data in WHEELS.items():
        (tmp_path / name).write_bytes(data)
    python = tmp_path / "venv" / "bin" / "python"
    await run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    uv = ("uv", "pip", "install", "--quiet", "--python", str(python))
    await run(*uv, "--offline", "--find-links", str(tmp_path), "greeting==1.0", "tone==2.1")
    await run(*uv, "--editable", str(ROOT))
    (tmp_path / "script.py").write_text(SCRIPT)
    found = await run(
        *("env", "-C", str(tmp_path), str(python), "script.py", user.namespace),
        SHOAL_MIRROR_ENVIRONMENT="true",
        SHOAL_PACKAGE_INDEX=index.split()[1],
    )
    assert found == "('loudly', '1.0', ['greeting', 'tone'])\n"


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


async def test_what_a_projects_locks_and_a_script_name(
    user: Place, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_PACKAGE_INDEX", index.split()[1])
    (tmp_path / "poetry.lock").write_text(
        '[[package]]\nname = "tone"\nversion = "2.0"\ngroups = ["main"]\n'
        f'files = [{{file = "x", hash = "sha256:{OLD_TONE}"}}]\n'
        '[metadata]\nlock-version = "2.1"\n'
    )
    (tmp_path / "script.py").write_text("# /// script\n# dependencies = ['tone==2.0']\n# ///\n")
    for chosen in (
        shoal.PoetryProjectPath(str(tmp_path), PYTHON),
        shoal.ScriptRequirements(str(tmp_path / "script.py"), PYTHON),
    ):
        here = shoal.Deployment(chosen)
        assert await shoal.run_function(tone, user.host(), None, here) == "softly"
    assert len(await builds(user)) == 2
    (tmp_path / "poetry.lock").write_text(
        (tmp_path / "poetry.lock").read_text().replace(OLD_TONE, "0" * 64)
    )
    here = shoal.Deployment(shoal.PoetryProjectPath(str(tmp_path), PYTHON))
    with pytest.raises(EnvironmentFailed, match=r"[Hh]ash mismatch"):
        await shoal.run_function(tone, user.host(), None, here)


async def test_a_debian_tool_and_the_library_that_it_depends_on(user: Place, index: str) -> None:
    environment = {
        "requirements": [index, "tone"],
        "software": ["greeter"],
        "softwareSources": [package_index.source(user.namespace)],
    }
    await user.apply("Deployment", "tools", {"python": PYTHON, "environment": environment})
    command = {"command": ["greet", "you"], "deployment": {"ref": "tools"}}
    done = await user.run("Job", "greets", command)
    assert done["exitCode"] == 0, done
    assert "hello you, from Debian\n" in await log(user, "greets")
    call = {"function": {"name": "tone.library"}, "deployment": {"ref": "tools"}}
    done = await user.run("Job", "loads", call)
    assert done.get("result") == "libgreet.so.1", done


async def test_a_debian_package_that_is_nowhere(user: Place, index: str) -> None:
    environment = {
        "software": ["nowhere"],
        "softwareSources": [package_index.source(user.namespace)],
    }
    spec = {
        "function": {"name": "platform.node"},
        "deployment": {"python": PYTHON, "environment": environment},
    }
    done = await user.run("Job", "greets", spec)
    failed = condition(done, "Failed")
    assert failed["reason"] == "EnvironmentFailed"
    assert "Unable to locate package nowhere" in failed["message"]


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
