"""What an environment.yml or an explicit list of this machine names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shoal import requirement_lines
from shoal.errors import ConfigurationError
from shoal.worker.conda_file import CondaFileError, CondaPackages, parse


def of_file(path: Path, file_format: str | None = None) -> CondaPackages:
    """Return what the file names; None means that its content tells its format.

    Raises:
        ConfigurationError: it can't be read, or names what can't be had on the cluster's nodes.
    """
    try:
        found = parse(path.read_text(encoding="utf-8"), str(path), file_format)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"CondaEnvironmentFile: {path}: {why}") from error
    except CondaFileError as error:
        raise ConfigurationError(str(error)) from error
    lines = requirement_lines.of_text("\n".join(found.requirements), path)
    return replace(found, requirements=tuple(lines))
