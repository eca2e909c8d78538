"""Another version of Python than the client's: with packages, in manifests, with the user's code.

The cluster has images of two versions; the tests run under one and have the other run the code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from namespaces import Place, condition
from package_index import serve, wheel

import shoal
from shoal.errors import EnvironmentFailed, ImagePullFailed, PythonMismatch, Unpicklable

OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
(THEIRS,) = {"3.11", "3.13"} - {OURS} if OURS in ("3.11", "3.13") else ("3.13",)
ABSENT = "3.12"
IMAGE = f"docker.io/library/python:{OURS}-slim"
TELLER = """
import pathlib, platform
def version():
    return platform.python_version()
def describe(n):
    return {"n": n, "python": version(), "path": pathlib.Path("/data") / str(n)}
def call(function):
    return function()
def code():
    return lambda: 1
def main():
    print("told by", version())
"""
WHEELS = dict([wheel("teller", "1.0", {"teller.py": TELLER}, script="tell = teller:main")])


@pytest.fixture
async def index(user: Place) -> str:
    """The option that names the namespace's own index."""
    return f"--index-url {await serve(user, WHEELS, IMAGE)}"


def teller(folder: Path, index: str, python: str = THEIRS) -> shoal.PipRequirementsFile:
    path = folder / "requirements.txt"
    path.write_text(f"{index}\nteller==1.0\n")
    return shoal.PipRequirementsFile(str(path), python)


def image_of(python: str) -> shoal.ContainerInterpreter:
    return shoal.ContainerInterpreter("docker.io/library/python", f"{python}-slim")


async def mirrored(folder: Path, interpreter: Any) -> shoal.Deployment:
    """The module `teller` as code of this machine."""
    code = folder / "code"
    code.mkdir()
    (code / "teller.py").write_text(TELLER)
    return await shoal.Deployment.mirror_local(
        include_sys_path=False, additional_sys_paths=[str(code)], interpreter=interpreter
    )


async def test_functions_of_a_package_by_their_names(
    user: Place, index: str, tmp_path: Path
) -> None:
    here = shoal.Deployment(teller(tmp_path, index))
    found = await shoal.run_function("teller.version", user.host(), None, here)
    assert found.startswith(f"{THEIRS}.")
    told = await shoal.run_map("teller.describe", [1, 2, 3], user.host(), None, here)
    assert told == [{"n": n, "python": found, "path": Path(f"/data/{n}")} for n in (1, 2, 3)]


async def test_commands(
    user: Place, index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = shoal.Deployment(teller(tmp_path, index))
    await shoal.run_command("python --version", user.host(), None, here)
    assert f"Python {THEIRS}." in capsys.readouterr().out
    await shoal.run_command("tell", user.host(), None, here)
    assert f"told by {THEIRS}." in capsys.readouterr().out


async def test_a_manifest_names_a_minor_version_and_then_the_exact_one(
    user: Place, index: str, tmp_path: Path
) -> None:
    asks = {"function": {"name": "platform.python_version"}}
    done = await user.run("Job", "minor", {**asks, "deployment": {"python": THEIRS}})
    exact = done.get("result", "")
    assert exact.startswith(f"{THEIRS}."), done
    done = await user.run("Job", "exact", {**asks, "deployment": {"python": exact}})
    assert done.get("result") == exact, done
    here = shoal.Deployment(teller(tmp_path, index, exact))
    assert await shoal.run_function("teller.version", user.host(), None, here) == exact


async def test_no_worker_warns_under_another_version(user: Place) -> None:
    spec = {
        "function": {"name": "builtins.str"},
        "items": {"inline": [False, True]},
        "deployment": {
            "python": THEIRS,
            "environmentVariables": [{"name": "PYTHONWARNINGS", "value": "error"}],
        },
    }
    done = await user.run("MapJob", "strict", spec)
    assert condition(done, "Complete").get("status") == "True", done


async def test_code_of_this_machine(user: Place, index: str, tmp_path: Path) -> None:
    here = await mirrored(tmp_path, teller(tmp_path, index))
    found = await shoal.run_function("teller.version", user.host(), None, here)
    assert found.startswith(f"{THEIRS}.")


async def test_bytecode_does_not_travel(user: Place, index: str, tmp_path: Path) -> None:
    """Another version would not refuse it, but end with a signal or do something else."""
    packages = shoal.Deployment(teller(tmp_path, index))
    with pytest.raises(Unpicklable, match=r"args\[0\].*define it in a module"):
        await shoal.run_function("teller.call", user.host(), None, packages, [lambda: 1])
    image = await mirrored(tmp_path, image_of(THEIRS))  # the client does not know its version
    with pytest.raises(shoal.TaskException, match=rf"another version of Python than {THEIRS}"):
        await shoal.run_function("teller.call", user.host(), None, image, [lambda: 1])
    with pytest.raises(shoal.TaskException, match="travels with its code"):
        await shoal.run_function("teller.code", user.host(), None, image)
    with pytest.raises(PythonMismatch, match=f"pickled by Python {OURS}, .* Python {THEIRS};"):
        await shoal.run_function(lambda: 1, user.host(), None, image)


async def test_a_version_without_an_image(user: Place, index: str, tmp_path: Path) -> None:
    """It fails once the image's time is over, and says which image is missing."""
    spec = {"function": {"name": "platform.node"}, "deployment": {"python": ABSENT}}
    done = await user.run("Job", "absent", spec)
    failed = condition(done, "Failed")
    assert failed["reason"] == "ImagePullFailed"
    assert f"python:{ABSENT}-slim" in failed["message"]
    assert "pythonImages" in failed["message"]
    here = shoal.Deployment(teller(tmp_path, index, ABSENT))
    with pytest.raises(EnvironmentFailed, match=f"python:{ABSENT}-slim") as told:
        await shoal.run_function("teller.version", user.host(), None, here)
    assert "pythonImages" in str(told.value)
    named = shoal.Deployment(image_of(f"{ABSENT}.7"))
    with pytest.raises(ImagePullFailed, match=rf"python:{ABSENT}\.7-slim"):
        await shoal.run_command("python", user.host(), None, named)
