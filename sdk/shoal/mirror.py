"""Collects the code of this machine into a zip, for `Deployment.mirror_local`.

What is taken: the .py and .so files in the folders on sys.path that are not the interpreter's, and
what globs name. What is not: virtual environments, hidden folders, caches, installed packages, and
what a .shoalignore says.

Layout of the zip, so that relative paths work there as they do here: the current folder's parent is
`0/`, so the current folder is `0/<name>`; each folder outside of it is `<n>/<name>`. The zip is the
same for the same files (sorted, fixed dates), so its digest is its name in the bucket.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import io
import os
import site
import sys
import sysconfig
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache

from shoal.deployment import MirroredCode, MirrorRequest
from shoal.errors import ConfigurationError
from shoal.storage.base import Storage

LARGE = 50 * 10**6
"""Bytes of a zip from which on there is a warning."""

GRACE_SECONDS = 86400.0
"""How long the operator leaves code that no resource names; older than half of it goes up again."""

KEPT = 4
"""How many zips stay in memory, for the next call with the same arguments."""

IGNORE_FILE = ".shoalignore"
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
EPOCH = (1980, 1, 1, 0, 0, 0)

_lock = threading.Lock()
_last: dict[MirrorRequest, tuple[tuple[object, ...], MirroredCode]] = {}
_uploaded: dict[tuple[str, str], float] = {}


def kept(request: MirrorRequest) -> MirroredCode | None:
    """Return the last zip of this process for the same request, without looking at any file."""
    with _lock:
        known = _last.get(request)
    return known[1] if known else None


def collect(request: MirrorRequest) -> MirroredCode:
    """Return the zip. Files that have not changed since the last time are not packed again.

    Raises ConfigurationError (a ValueError) for a glob that leads outside.
    """
    with _lock:
        known = _last.get(request)
        layout = Layout(request)
        files = layout.files()
        stats = [(name, path, os.stat(path)) for name, path in files]
        signature = tuple((n, s.st_mtime_ns, s.st_size, s.st_mode & 0o111) for n, _, s in stats)
        if known and known[0] == signature:
            return known[1]
        archive = _pack([(name, path) for name, path, _ in stats], layout.empty_folders())
        if len(archive) > LARGE:
            _warn_large(archive, [(path, stat.st_size) for _, path, stat in stats])
        code = MirroredCode(
            archive, hashlib.sha256(archive).hexdigest(), layout.sys_paths, layout.working_directory
        )
        _last[request] = (signature, code)
        while len(_last) > KEPT:
            del _last[next(iter(_last))]
        return code


def code_key(prefix: str, sha256: str) -> str:
    """Return where in the bucket a zip is."""
    return f"{prefix}/code/{sha256}"


def upload(code: MirroredCode, storage: Storage, prefix: str) -> None:
    """Put the zip at ``<prefix>/code/<sha256>``, unless it is there and young enough to stay."""
    if is_known(code, storage, prefix):
        return
    key = code_key(prefix, code.sha256)
    found = storage.info(key)
    if found is None or found.size != code.size or found.age_seconds > GRACE_SECONDS / 4:
        storage.put(key, code.archive)
    _uploaded[storage.where, key] = time.monotonic()


def is_known(code: MirroredCode, storage: Storage, prefix: str) -> bool:
    """Tell whether this process has lately seen that the zip is there."""
    seen = _uploaded.get((storage.where, code_key(prefix, code.sha256)), float("-inf"))
    # what was a quarter old when we looked is at most half as old when we look again
    return time.monotonic() - seen < GRACE_SECONDS / 4


def forget_uploads() -> None:
    """Look again next time what is in the bucket (after a job that did not find its code there)."""
    _uploaded.clear()


class Layout:
    """Which file of this machine stands where in the zip."""

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
        self.extensions = request.extensions
        self.globs = request.globs
        outside = [folder for folder in self.folders if not _is_in(folder, [self.home])]
        self._roots = [root for root in outside if not _is_in(os.path.dirname(root), outside)]
        self.working_directory = self.name_of(self.here)
        self.sys_paths = tuple(self.name_of(folder) for folder in self.folders)

    def name_of(self, path: str) -> str:
        """Return the name in the zip; ConfigurationError if there is no place for it."""
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

    def files(self) -> list[tuple[str, str]]:
        """Return (name in the zip, path here) of every file, sorted."""
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
        return sorted(found.items())

    def empty_folders(self) -> list[str]:
        """Return the folders that must be there even if no file is in them."""
        return sorted({self.working_directory, *self.sys_paths})


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


def _pack(files: Sequence[tuple[str, str]], folders: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in folders:
            entry = zipfile.ZipInfo(f"{name}/", EPOCH)
            entry.external_attr = 0o40755 << 16 | 0x10
            archive.writestr(entry, b"")
        for name, path in files:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            with open(path, "rb") as file:
                archive.writestr(entry, file.read())
    return buffer.getvalue()


def _warn_large(archive: bytes, files: Sequence[tuple[str, int]]) -> None:
    largest = sorted(files, key=lambda file: -file[1])[:3]
    names = ", ".join(f"{path} ({size / 1e6:.0f} MB)" for path, size in largest)
    warnings.warn(
        f"mirror_local: the code is {len(archive) / 1e6:.0f} MB; the largest files are {names}. "
        f"Name what is not needed in a {IGNORE_FILE}",
        stacklevel=3,
    )


def _is_in(path: str, folders: Sequence[str]) -> bool:
    """Tell whether the path is one of the folders or below one (whole names, no mere prefixes)."""
    return any(
        path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders
    )


def _join(start: str, rest: str) -> str:
    return start if rest == "." else f"{start}/{rest}".replace(os.sep, "/")
