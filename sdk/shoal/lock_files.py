"""What a project's lock file, or a script's own header, says has to be installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from shoal import requirement_lines
from shoal.errors import ConfigurationError
from shoal.worker import poetry_lock

EXPORT_SECONDS = 60.0
_HEADER = re.compile(r"^# /// script[ \t]*\n(?P<lines>(?:#(?: .*)?\n)*?)# ///[ \t]*$", re.MULTILINE)


def of_uv_project(folder: Path) -> list[str]:
    """Return the lines of a uv project's lock, without its development groups and itself.

    Raises:
        ConfigurationError: there is no lock, or no uv, or uv refuses it.
    """
    for name in ("pyproject.toml", "uv.lock"):
        if not (folder / name).is_file():
            raise ConfigurationError(f"UvProjectPath: there is no {folder / name}: run `uv lock`")
    uv = shutil.which("uv")
    if uv is None:
        raise ConfigurationError(
            f"UvProjectPath: uv, which reads {folder / 'uv.lock'}, is not on the PATH"
        )
    argv = [uv, "export", "--frozen", "--no-emit-workspace", "--no-default-groups", "--no-header"]
    argv += ["--quiet", "--no-annotate", "--format", "requirements.txt", "--project", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=EXPORT_SECONDS, check=False)
    if done.returncode:
        raise ConfigurationError(f"UvProjectPath: {folder}: {done.stderr.strip()}")
    return requirement_lines.of_text(done.stdout, folder / "uv.lock")


def of_poetry_project(folder: Path) -> list[str]:
    """Return the lines of a poetry.lock: what its group `main` needs, without extras.

    Raises:
        ConfigurationError: there is no lock, or one of Poetry 1, or it names a local folder.
    """
    try:
        lines = poetry_lock.read(str(folder))
    except ValueError as error:
        raise ConfigurationError(f"PoetryProjectPath: {error}") from error
    for line in lines:
        requirement_lines.check(line, folder / "poetry.lock")
    return lines


def of_script(path: Path) -> list[str]:
    """Return the dependencies in a script's header (PEP 723).

    Raises:
        ConfigurationError: there is no such header, or it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"ScriptRequirements: {path}: {error.strerror}") from error
    header = _HEADER.search(text)
    if header is None:
        raise ConfigurationError(
            f"ScriptRequirements: {path} has no header `# /// script` (PEP 723) that names its "
            "dependencies"
        )
    lines = [line[2:] for line in header["lines"].strip().splitlines()]
    try:
        found = tomllib.loads("\n".join(lines)).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"ScriptRequirements: {path}: its header: {error}") from error
    return requirement_lines.of_text("\n".join(found), path)
