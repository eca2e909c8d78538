"""Installs conda packages: what the builder runs for an environment that has some.

It is a program of its own, as uv is one: what it prints last is why it failed. py-rattler solves
and installs; the operator serves it, as a tar that is unpacked beside the environment. The Python
that installs is the image's; the one that the environment gets is among its packages.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
from typing import Any

from .conda_file import parse
from .environment import ACTIVATION

#: The oldest Python that py-rattler is made for.
OLDEST = (3, 10)
#: What the channel of this name means.
DEFAULTS = "pkgs/main,pkgs/r"
#: How many packages of an explicit list are fetched at one time.
DOWNLOADS = 10
#: What a shell sets on its own, or what the worker sets itself.
OF_SHELLS = frozenset(("PATH", "PWD", "OLDPWD", "SHLVL", "_", "CONDA_PREFIX"))

HINT = (
    "name a channel that Pods can reach: by its URL, or by its name and the chart's "
    "environments.variables.CONDA_CHANNEL_ALIAS"
)
NO_GLIBC = (
    "py-rattler can't run in this image, whose C library is another one than the operator's image "
    "has (Alpine?): name an image with glibc"
)
BUILDS = (
    "builds (name=version=build) differ from platform to platform: write the file with "
    "`conda env export --no-builds`, or with `--from-history`"
)


def command(wanted: dict[str, Any], tool: str, target: str) -> list[str]:
    """Return what to run to install `wanted` at `target`; `tool` is the tar with py-rattler.

    `wanted` has ``channels`` and ``packages`` (match specs), or ``explicit`` (URLs of packages); or
    ``file``, which says it, with its ``format`` and the path ``pip`` for its lines for pip.
    """
    ours = sys.modules[__name__.partition(".")[0]]  # the worker's package, in its zip
    here = os.path.dirname(next(iter(ours.__path__)))
    code = f"import sys; sys.path.insert(0, {here!r}); from {__name__} import main; main()"
    return [sys.executable, "-u", "-c", code, json.dumps(wanted), tool, target]


def version_of_python(prefix: str) -> str:
    """Return the version of the Python among the packages of a conda environment, "" for none."""
    for path in glob.glob(os.path.join(prefix, "conda-meta", "python-*.json")):
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        if record["name"] == "python":
            return str(record["version"])
    return ""


def main() -> None:
    """Install, as `command` says."""
    wanted, tool, target = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    if sys.version_info < OLDEST:
        ours = "{}.{}".format(*sys.version_info[:2])
        sys.exit(
            f"the image's Python {ours} is too old: conda packages are installed by one of "
            f"{OLDEST[0]}.{OLDEST[1]} or newer. Name a newer image or python: the code runs under "
            "the environment's own Python anyhow"
        )
    with tempfile.TemporaryDirectory() as work:
        with tarfile.open(tool) as packed:
            packed.extractall(work)
        sys.path.insert(0, work)
        variables: dict[str, str] = {}
        if "file" in wanted:
            wanted, variables = _from_file(wanted["file"], wanted["format"], wanted["pip"])
        _install_or_exit(wanted, target, os.path.join(work, "cache"))
        _compile(target)
        _note_activation(target, os.path.join(work, "activated.json"), variables)


def _from_file(path: str, file_format: str, pip: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a file of a repository wants, and its variables; write its lines for pip."""
    try:
        with open(path, encoding="utf-8") as file:
            found = parse(file.read(), os.path.basename(path), file_format or None)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    with open(pip, "w", encoding="utf-8") as lines:
        lines.writelines(f"{line}\n" for line in found.requirements)
    return found.to_dict(), dict(found.variables)


def _install_or_exit(wanted: dict[str, Any], target: str, cache: str) -> None:
    """Install, or end with the words of what could not."""
    os.environ["RATTLER_CACHE_DIR"] = cache
    try:
        from rattler import exceptions
    except ImportError as error:
        sys.exit(f"{error}\n{NO_GLIBC}")
    named: Any = (getattr(exceptions, name) for name in exceptions.__all__)
    try:
        asyncio.run(_install(wanted, target, cache))
    except (exceptions.GatewayError, exceptions.FetchRepoDataError) as error:
        sys.exit(f"{error}\n{HINT}")
    except (*named, RuntimeError) as error:  # a RuntimeError: a package can't be fetched
        sys.exit(str(error))
    if not version_of_python(target):
        sys.exit("none of the packages is python, or needs it: add python to the packages")


async def _install(wanted: dict[str, Any], target: str, cache: str) -> None:
    import rattler

    trusted = {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ)
    roots = "system" if trusted else "webpki"
    client = rattler.Client.from_config(rattler.Config.from_toml(f'tls-root-certs = "{roots}"'))
    if wanted.get("explicit"):
        records = await _fetched(client, wanted["explicit"], os.path.join(cache, "explicit"))
    else:
        records = await _solved(client, wanted["channels"], wanted["packages"])
    await rattler.install(
        records,
        target,
        client=client,
        show_progress=False,
        execute_link_scripts=True,
        reporter=_Told({record.name.normalized: record for record in records}),
    )


async def _solved(client: Any, channels: list[str], packages: list[str]) -> list[Any]:
    """Return the records of the packages and of what they need.

    A channel's packages go before those of the next ones; if that can't be, as conda does it, they
    are taken from wherever they fit.
    """
    import rattler

    pairs = [_channel_and_spec(package) for package in packages]
    specs = [spec for _, spec in pairs]
    urls = [
        url for name in (*channels, *(name for name, _ in pairs if name)) for url in _urls(name)
    ]
    sources = [rattler.Channel(url) for url in dict.fromkeys(urls)]
    print(f"solving: {', '.join(packages)}")
    print(f"channels: {', '.join(source.base_url for source in sources)}")
    gateway = rattler.Gateway(client=client)
    found = rattler.VirtualPackage.detect()
    print(f"of this node: {', '.join(str(one.into_generic()) for one in found)}")
    priorities = [rattler.ChannelPriority.Strict, rattler.ChannelPriority.Disabled]
    for priority in priorities[: len(sources)]:
        try:
            return await rattler.solve(
                sources,
                specs,
                gateway=gateway,
                virtual_packages=found,
                channel_priority=priority,
            )
        except rattler.exceptions.SolverError as error:
            reason = error
    pinned = any(spec.build is not None for spec in specs)
    raise rattler.exceptions.SolverError(f"{reason}\n{BUILDS}" if pinned else str(reason))


def _channel_and_spec(package: str) -> tuple[str, Any]:
    """Return the channel that a match spec names, "" for none, and the spec with its URL."""
    import rattler

    name, named, rest = package.rpartition("::")
    urls = _urls(name) if named else []
    text = f"{urls[0]}::{rest}" if len(urls) == 1 else rest  # defaults are several
    try:
        return name, rattler.MatchSpec(text)
    except rattler.exceptions.InvalidMatchSpecError as error:
        sys.exit(f"{package!r} is no match spec, such as numpy=2.1.*: {error}")


def _urls(channel: str) -> list[str]:
    """Return where a channel is; what a name means is said by the variables of conda's own."""
    if channel == "defaults":
        defaults = os.environ.get("CONDA_DEFAULT_CHANNELS") or DEFAULTS
        return [url for name in defaults.split(",") for url in _urls(name.strip())]
    if "://" in channel:
        return [channel.rstrip("/")]
    if alias := os.environ.get("CONDA_CHANNEL_ALIAS"):
        return [f"{alias.rstrip('/')}/{channel}"]
    import rattler

    # what has a mere name is where py-rattler says; pkgs/main is also there as main
    return [rattler.Channel(channel.partition("pkgs/")[2] or channel).base_url.rstrip("/")]


async def _fetched(client: Any, explicit: list[str], folder: str) -> list[Any]:
    """Fetch packages by their URLs, and return the records that are in them."""
    import rattler
    from rattler import package_streaming

    ours, room = str(rattler.Subdir.current()), asyncio.Semaphore(DOWNLOADS)

    async def fetched(number: int, text: str) -> Any:
        url, _, expected = text.partition("#")
        subdir, name = urllib.parse.urlsplit(url).path.split("/")[-2:]
        if subdir not in (ours, "noarch"):
            sys.exit(
                f"{url} is for {subdir}, this node is {ours}: make the list on {ours}, or name "
                "versions in place of URLs (`conda env export --no-builds`)"
            )
        path = os.path.join(folder, str(number), urllib.parse.unquote(name))
        os.makedirs(os.path.dirname(path))
        async with room:
            print(f"fetch {url}")
            await package_streaming.download_to_path(client, url, pathlib.Path(path))
            _check_digest(path, url, expected)
            return await rattler.RepoDataRecord.from_package_archive(path)

    return await asyncio.gather(*(fetched(*numbered) for numbered in enumerate(explicit)))


def _check_digest(path: str, url: str, expected: str) -> None:
    """Refuse a package that has another digest than the list says: MD5, or sha256:SHA-256."""
    kind, _, value = expected.rpartition(":")
    if not value:
        return
    digest = hashlib.new(kind or ("md5" if len(value) == 32 else "sha256"))
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != value.lower():
        sys.exit(f"{url} has {digest.name} {digest.hexdigest()}, the list says {value}")


class _Told:
    """Tells, on the way, what is fetched and what is installed."""

    def __init__(self, records: dict[str, Any]) -> None:
        self._records = records

    def on_populate_cache_start(self, _operation: int, name: str) -> int:
        print(f"fetch {self._line(name)}")
        return 0

    def on_link_start(self, _operation: int, name: str) -> int:
        print(f"+ {self._line(name)}")
        return 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_: 0  # what else there is to report

    def _line(self, name: str) -> str:
        record = self._records[name]
        return f"{name}={record.version}={record.build}"


def _compile(target: str) -> None:
    """Compile what packages for any Python have as sources only; some of it may be none."""
    folders = glob.glob(os.path.join(target, "lib", "python3*", "site-packages"))
    python = os.path.join(target, "bin", "python")
    subprocess.run([python, "-m", "compileall", "-qq", *folders], check=False)


def _note_activation(target: str, scratch: str, variables: dict[str, str]) -> None:
    """Write down what activation would set: by the packages' files, and by their scripts.

    `scratch` is the path of a file for a while.
    """
    told: dict[str, str] = {}
    for path in sorted(glob.glob(os.path.join(target, "etc", "conda", "env_vars.d", "*.json"))):
        with open(path, encoding="utf-8") as file:
            told.update(json.load(file))
    scripts = sorted(glob.glob(os.path.join(target, "etc", "conda", "activate.d", "*.sh")))
    if scripts:
        told.update(_activated(target, scripts, told, scratch))
    with open(os.path.join(target, ACTIVATION), "w", encoding="utf-8") as file:
        json.dump({**told, **variables}, file)


def _activated(
    target: str, scripts: list[str], told: dict[str, str], scratch: str
) -> dict[str, str]:
    """Return the variables that activation scripts have set or changed."""
    programs = os.path.join(target, "bin")
    before = {**os.environ, **told, "CONDA_PREFIX": target}
    before["PATH"] = os.pathsep.join([programs, before.get("PATH", os.defpath)])
    shell = shutil.which("bash") or "sh"
    tell = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    code = 'for one in "$@"; do . "$one"; done; "$CONDA_PREFIX/bin/python" -c "$TELL" "$TOLD"'
    done = subprocess.run(
        [shell, "-c", code, shell, *scripts],
        env={**before, "TELL": tell, "TOLD": scratch},
        check=False,
    )
    if done.returncode or not os.path.exists(scratch):
        names = ", ".join(os.path.basename(script) for script in scripts)
        sys.exit(
            f"the packages' activation scripts ({names}) ended with exit code {done.returncode}: "
            "leave out the package whose script does not run in a container"
        )
    with open(scratch, encoding="utf-8") as file:
        after: dict[str, str] = json.load(file)
    ignored = OF_SHELLS | {"TELL", "TOLD"}
    return {n: v for n, v in after.items() if n not in ignored and before.get(n) != v}
