"""`Local()` runs the Python that a deployment names, with what is installed beside it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import shoal
from shoal.errors import ConfigurationError, NotSupportedYet

cloudpickle.register_pickle_by_value(sys.modules[__name__])

OURS = platform.python_version()
MINOR = OURS.rpartition(".")[0]


@pytest.fixture
def python(tmp_path: Path) -> str:
    """The Python of a virtual environment with the package `tone` and the command `tell`."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "tone.py").write_text("TONE = 'softly'\ndef say(how):\n    return TONE, how\n")
    (site / "tone-1.0.dist-info").mkdir()
    (site / "tone-1.0.dist-info" / "METADATA").write_text("Name: tone\nVersion: 1.0\n")
    tell = venv / "bin" / "tell"
    tell.write_text(f"#!{venv}/bin/python\nimport tone; print('told', tone.TONE)\n")
    tell.chmod(0o755)
    return str(venv / "bin" / "python")


@pytest.fixture
def host(tmp_path: Path) -> shoal.Local:
    return shoal.Local(tmp_path / "folder")


def pretends(folder: Path, version: str) -> str:
    """A program that says it is a Python of that version."""
    path = folder / f"python-{version}"
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


def tone() -> tuple[str, str]:
    import sys

    import tone as package

    return package.TONE, sys.prefix


async def test_packages_beside_an_interpreter(host: shoal.Local, python: str) -> None:
    prefix = str(Path(python).parents[1])
    for chosen in (
        shoal.LocalPipInterpreter(python),
        shoal.LocalPipInterpreter(python, MINOR),
        shoal.LocalPipInterpreter(python, OURS),
        shoal.PreinstalledInterpreter(python),
    ):
        here = shoal.Deployment(chosen)
        assert await shoal.run_function(tone, host, None, here) == ("softly", prefix)
    assert await shoal.run_map("tone.say", [1], host, None, here) == [("softly", 1)]
    with pytest.raises(shoal.TaskException, match="No module named 'tone'"):
        await shoal.run_function(tone, host, None, shoal.Deployment())


async def test_commands_find_its_console_scripts(
    host: shoal.Local, python: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here = shoal.Deployment(shoal.LocalPipInterpreter(python), None, {"PATH": os.defpath})
    await shoal.run_command("tell", host, None, here)
    assert "told softly" in capfd.readouterr().out
    await shoal.run_command(["python", "-c", "import sys; print(sys.prefix)"], host, None, here)
    assert str(Path(python).parents[1]) in capfd.readouterr().out


async def test_a_run_under_another_interpreter_is_found_and_cancelled(
    host: shoal.Local, python: str
) -> None:
    here = shoal.Deployment(shoal.LocalPipInterpreter(python))
    handle = await shoal.submit_function("time.sleep", host, None, here, [60])
    found = await shoal.attach(handle.name, host)
    await found.cancel()
    with pytest.raises(shoal.errors.Cancelled):
        await handle.result()


async def test_what_is_not_there_is_an_error_in_words(
    host: shoal.Local, python: str, tmp_path: Path
) -> None:
    async def refused(interpreter: object, kind: type[Exception], match: str) -> None:
        with pytest.raises(kind, match=match):
            here = shoal.Deployment(interpreter)  # type: ignore[arg-type]
            await shoal.run_function("math.sqrt", host, None, here, [4])

    missing = shoal.PreinstalledInterpreter("/opt/python")
    await refused(missing, ConfigurationError, "PreinstalledInterpreter: there is no program /opt")
    other = shoal.LocalPipInterpreter(python, "3.99")
    await refused(other, ConfigurationError, rf"is Python {OURS}, not 3\.99: leave python_version")
    software = shoal.LocalPipInterpreter(python, additional_software="libgomp1")
    await refused(software, NotSupportedYet, "no Debian packages: install them on this machine")
    old = shoal.PreinstalledInterpreter(pretends(tmp_path, "3.8.18"))
    await refused(old, ConfigurationError, r"is Python 3\.8\.18, a worker needs 3\.9")
    none = shoal.PreinstalledInterpreter("/bin/false")
    await refused(none, ConfigurationError, "/bin/false does not tell its version")
    (tmp_path / "requirements.txt").write_text("six\n")
    names = shoal.PipRequirementsFile(str(tmp_path / "requirements.txt"), MINOR)
    await refused(names, NotSupportedYet, r"LocalPipInterpreter\(its Python\)")


async def test_a_function_is_not_handed_to_another_version(
    host: shoal.Local, tmp_path: Path
) -> None:
    path = pretends(tmp_path, "3.99.1")
    here = shoal.Deployment(shoal.PreinstalledInterpreter(path))
    with pytest.raises(ConfigurationError, match=rf"{path} is 3\.99, this is Python {MINOR}"):
        await shoal.run_function(tone, host, None, here)
    with pytest.raises(ConfigurationError, match=rf"{path} is 3\.99"):
        await shoal.run_function(tone, shoal.Local(tmp_path / "folder", path))
