"""Collects the code of this machine, for `Deployment.mirror_local`.

What is taken: the .py and .so files in the folders on sys.path that are not the interpreter's, and
what globs name. What is not: virtual environments, hidden folders, caches, installed packages, and
what a .shoalignore says.

Where a file stands in the code, so that relative paths work there as they do here: the current
folder's parent (or the outermost folder around it that is on sys.path) is `0/`; each folder outside
of it is `<n>/<name>`. `shoal.code_parts` packs the files.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import site
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from shoal.code_parts import Entry, Group, cut, pack
from shoal.deployment import CodePart, MirroredCode, MirrorRequest
from shoal.errors import ConfigurationError

LARGE = 50 * 10**6
"""Bytes of packed code from which on there is a warning."""

KEPT = 4
"""How many requests' code stays in memory, for the next call with the same arguments."""

IGNORE_FILE = ".shoalignore"
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


@dataclass(frozen=True)
class _Collected:
    """What became of a request: the files as they were, and the part that each group became."""

    entries: Sequence[Entry]
    parts: dict[Group, CodePart]
    code: MirroredCode


_lock = threading.Lock()
_last: dict[MirrorRequest, _Collected] = {}


def kept(request: MirrorRequest) -> MirroredCode | None:
    """Return the last code of this process for the same request, without looking at any file."""
    with _lock:
        known = _last.get(request)
    return known.code if known else None


def collect(request: MirrorRequest) -> MirroredCode:
    """Return the code. Parts whose files have not changed since the last time are not read again.

    Raises ConfigurationError (a ValueError) for a glob that leads outside.
    """
    with _lock:
        known = _last.get(request)
        layout = Layout(request)
        entries = layout.entries()
        if known and known.entries == entries:
            return known.code
        packed = {group: part for each in _last.values() for group, part in each.parts.items()}
        parts = pack(cut(entries), packed)
        files = [entry for entry in entries if entry.path]
        code = MirroredCode(
            tuple(parts.values()),
            layout.sys_paths,
            layout.working_directory,
            len(files),
            sum(entry.size for entry in files),
        )
        if code.size > LARGE:
            _warn_large(code, files)
        _last[request] = _Collected(entries, parts, code)
        while len(_last) > KEPT:
            del _last[next(iter(_last))]
        return code


class Layout:
    """Which file of this machine stands where in the code."""

    def __init__(self, request: MirrorRequest) -> None:
        self.here = os.path.realpath(request.working_directory)
        self.home = os.path.dirname(self.here)
        own = interpreter_folders()
        folders = dict.fromkeys(os.path.realpath(folder) for folder in request.folders)
        self.folders = [
            folder
            for folder in folders
            if os.path.isdir(folder) and folder != os.sep and not _is_in(folder, own)
        ]
        around = [folder for folder in self.folders if _is_in(self.home, [folder])]
        self.home = min([self.home, *around], key=len)
        self.extensions = request.extensions
        self.globs = request.globs
        outside = [folder for folder in self.folders if not _is_in(folder, [self.home])]
        self._roots = [root for root in outside if not _is_in(os.path.dirname(root), outside)]
        self.working_directory = self.name_of(self.here)
        self.sys_paths = tuple(self.name_of(folder) for folder in self.folders)

    def name_of(self, path: str) -> str:
        """Return the name in the code; ConfigurationError if there is no place for it."""
        if _is_in(path, [self.home]):
            return _join("0", os.path.relpath(path, self.home))
        for number, root in enumerate(self._roots, 1):
            if _is_in(path, [root]):
                inner = os.path.relpath(path, root)
                return _join(f"{number}/{os.path.basename(root)}", inner)
        raise ConfigurationError(
            f"globs: {path} is neither in {self.home} nor in a folder on sys.path, so the code "
            "could not find it where it runs: move it, or name its folder in additional_sys_paths"
        )

    def entries(self) -> list[Entry]:
        """Return every file, and the folders that must be there even without one, by name."""
        folders = {f"{name}/" for name in (self.working_directory, *self.sys_paths)}
        files = [_look_at(name, path) for name, path in self._files().items()]
        return sorted([*(Entry(name, "") for name in folders), *files])

    def _files(self) -> dict[str, str]:
        found = {}
        for folder in self.folders if self.extensions else ():
            for path in _walk(folder):
                if path.lower().endswith(self.extensions):
                    found[self.name_of(path)] = path
        for pattern in self.globs:
            matches = glob.glob(
                os.path.join(self.here, os.path.expanduser(pattern)), recursive=True
            )
            paths = [os.path.normpath(path) for path in matches if os.path.isfile(path)]
            if not paths:
                warnings.warn(f"mirror_local: the glob {pattern!r} matches no file", stacklevel=2)
            for path in paths:
                path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
                found[self.name_of(path)] = path
        return found


@lru_cache(maxsize=1)
def interpreter_folders() -> list[str]:
    """Return the folders that belong to the interpreter and to what is installed in it."""
    paths = [path for name, path in sysconfig.get_paths().items() if name != "data"]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        paths += [os.path.join(prefix, "lib", version), os.path.join(prefix, "lib64", version)]
        if os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
            paths.append(prefix)
    system = {os.sep, "/usr", "/usr/bin", "/usr/local", "/usr/local/bin"}
    return sorted({os.path.realpath(path) for path in paths} - system)


class Ignored:
    """The patterns of a .shoalignore: ``*.csv``, ``data/``, ``/build/*.so``, # comments.

    A pattern without a slash (but at its end) fits a name at any depth, another one a path from the
    folder of the file on. A slash at the end means folders only.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._patterns: list[tuple[str, bool, bool]] = []
        path = os.path.join(folder, IGNORE_FILE)
        if not os.path.isfile(path):
            return
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
        for number, line in enumerate(lines, 1):
            if line.startswith("!"):
                raise ConfigurationError(
                    f"{path}:{number}: {line!r}: exceptions (!) are not supported; name the files "
                    "in globs, which are taken in any case"
                )
            if line and not line.startswith("#"):
                pattern = line.rstrip("/")
                anchored = "/" in pattern
                self._patterns.append((pattern.lstrip("/"), anchored, line.endswith("/")))

    def has(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether the path stays here."""
        if not self._patterns:
            return False
        relative = os.path.relpath(path, self._folder).replace(os.sep, "/")
        name = os.path.basename(path)
        return any(
            fnmatch.fnmatchcase(relative if anchored else name, pattern)
            for pattern, anchored, folders_only in self._patterns
            if is_folder or not folders_only
        )


def _walk(top: str) -> Iterator[str]:
    """Yield the files below a folder that may be code of the user."""
    ignored = Ignored(top)
    own = set(interpreter_folders())
    for folder, folders, names in os.walk(top):
        keep = []
        for name in folders:
            path = os.path.join(folder, name)
            skip = name.startswith(".") or name in SKIPPED or path in own
            if skip or os.path.exists(os.path.join(path, "pyvenv.cfg")):
                continue
            if os.path.isdir(os.path.join(path, "conda-meta")):
                continue
            if not ignored.has(path, is_folder=True):
                keep.append(name)
        folders[:] = sorted(keep)
        for name in names:
            path = os.path.join(folder, name)
            if not ignored.has(path, is_folder=False) and os.path.isfile(path):
                yield path


def _look_at(name: str, path: str) -> Entry:
    stat = os.stat(path)
    return Entry(name, path, stat.st_mtime_ns, stat.st_size, bool(stat.st_mode & 0o111))


def _warn_large(code: MirroredCode, files: Sequence[Entry]) -> None:
    largest = sorted(files, key=lambda file: -file.size)[:3]
    names = ", ".join(f"{file.path} ({file.size / 1e6:.0f} MB)" for file in largest)
    warnings.warn(
        f"mirror_local: the code is {code.size / 1e6:.0f} MB; the largest files are {names}. "
        f"Name what is not needed in a {IGNORE_FILE}, or say less in globs",
        stacklevel=3,
    )


def _is_in(path: str, folders: Sequence[str]) -> bool:
    """Tell whether the path is one of the folders or below one (whole names, no mere prefixes)."""
    return any(
        path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders
    )


def _join(start: str, rest: str) -> str:
    return start if rest == "." else f"{start}/{rest}".replace(os.sep, "/")
