"""Where code runs: an interpreter, the user's code, environment variables.

A `Deployment` is a description; the custom resource of the same name (`shoal.resources`) is made
from it at submit. `Deployment.mirror_local()` can be awaited, or handed over as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shoal.errors import ConfigurationError, NotSupportedYet
from shoal.interpreters import (
    ContainerAtDigestInterpreter,
    ContainerInterpreter,
    ContainerInterpreterBase,
    InterpreterSpecFile,
    KubernetesSecret,
    LocalInterpreter,
    PreinstalledInterpreter,
    Secret,
)

if TYPE_CHECKING:
    from shoal.interpreters import AnyInterpreter
LATER = "comes with a later version"


@dataclass(frozen=True)
class MirroredCode:
    """Code of this machine, as a zip.

    Attributes:
        archive: the zip.
        sha256: its digest in hexadecimal, and its name in the bucket.
        sys_paths: folders of the zip that go on sys.path, in this order.
        working_directory: the folder of the zip that stands for the current one.
    """

    archive: bytes = field(repr=False)
    sha256: str
    sys_paths: tuple[str, ...]
    working_directory: str

    @property
    def size(self) -> int:
        """Return the zip's size in bytes."""
        return len(self.archive)


@dataclass(frozen=True)
class MirrorRequest:
    """What `mirror_local` was asked for, and where it was asked.

    Attributes:
        folders: those that go on sys.path, in this order; the interpreter's own still among them.
        extensions: of the files to take from these folders; none means all that `globs` says.
        globs: patterns relative to `working_directory`.
        working_directory: the current folder at the call.
    """

    folders: tuple[str, ...]
    extensions: tuple[str, ...]
    globs: tuple[str, ...]
    working_directory: str

    @classmethod
    def now(
        cls,
        include_sys_path: bool = True,
        additional_sys_paths: Iterable[str] | str = (),
        include_sys_path_contents: bool | Iterable[str] | str = True,
        globs: Iterable[str] | str | None = None,
    ) -> MirrorRequest:
        """Take down the arguments, sys.path and the current folder as they are now."""
        here = os.getcwd()
        folders = _texts(additional_sys_paths)
        if include_sys_path:
            folders += tuple(sys.path)
        if include_sys_path_contents is True:
            extensions: tuple[str, ...] = (".py", ".so")
        elif include_sys_path_contents is False:
            extensions = ()
        else:
            extensions = tuple(name.lower() for name in _texts(include_sys_path_contents))
            for name in extensions:
                if not name.startswith("."):
                    raise ConfigurationError(
                        f'include_sys_path_contents has extensions such as ".txt", not {name!r}'
                    )
        absolute = tuple(os.path.join(here, os.path.expanduser(folder)) for folder in folders)
        return cls(absolute, extensions, _texts(globs or ()), here)


@dataclass(frozen=True)
class Deployment:
    """Where code runs.

    Attributes:
        interpreter: a container image, or packages that are installed once in the cluster; None
            means the operator's image for this Python version.
        code: what `mirror_local` collected; None means that the image has all that is needed.
        environment_variables: set where the code runs; no place for secrets, since whoever may read
            the custom resource can read them.
    """

    interpreter: AnyInterpreter | None = None
    code: MirroredCode | None = None
    environment_variables: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse what this version does not carry out."""
        check_interpreter(self.interpreter)
        for name, value in (self.environment_variables or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ConfigurationError(
                    f"environment_variables must map str to str; {name!r} is {value!r}"
                )

    @property
    def image(self) -> ContainerInterpreterBase | None:
        """Return the container image, None for the operator's default one."""
        chosen = self.interpreter
        return chosen if isinstance(chosen, ContainerInterpreterBase) else None

    @classmethod
    def container_image(
        cls,
        repository: str,
        tag: str = "latest",
        username_password_secret: Secret | None = None,
        environment_variables: dict[str, str] | None = None,
    ) -> Deployment:
        """Run in the image repository:tag, with no code of this machine."""
        image = ContainerInterpreter(repository, tag, username_password_secret)
        return cls(image, None, environment_variables)

    @classmethod
    def container_image_at_digest(
        cls,
        repository: str,
        digest: str,
        username_password_secret: Secret | None = None,
        environment_variables: dict[str, str] | None = None,
    ) -> Deployment:
        """Run in the image repository@digest, with no code of this machine."""
        image = ContainerAtDigestInterpreter(repository, digest, username_password_secret)
        return cls(image, None, environment_variables)

    @classmethod
    def mirror_local(
        cls,
        include_sys_path: bool = True,
        additional_sys_paths: Iterable[str] | str = (),
        include_sys_path_contents: bool | Iterable[str] | str = True,
        interpreter: AnyInterpreter | None = None,
        globs: Iterable[str] | str | None = None,
        environment_variables: dict[str, str] | None = None,
    ) -> PendingDeployment:
        """Run with the code of this machine.

        Args:
            include_sys_path: take the folders on sys.path, except the interpreter's own.
            additional_sys_paths: more folders, as if they were on sys.path.
            include_sys_path_contents: upload the .py and .so files of those folders; or a list of
                extensions to upload instead; or False to upload only what `globs` says.
            interpreter: a ContainerInterpreter or ContainerAtDigestInterpreter, or one whose
                packages are installed once, such as a PipRequirementsFile, CondaEnvironmentFile or
                LocalPipInterpreter.
            globs: more files, by patterns relative to the current folder ("**" goes deep). Files
                outside of the current folder's parent and of the folders above are a ValueError.
            environment_variables: set where the code runs.

        A file .shoalignore in one of the folders names what stays here. Awaiting the result reads
        the files; a run function accepts it un-awaited too.
        """
        check_interpreter(interpreter)
        request = MirrorRequest.now(
            include_sys_path, additional_sys_paths, include_sys_path_contents, globs
        )

        async def collect() -> Deployment:
            import asyncio

            from shoal import mirror

            code = await asyncio.to_thread(mirror.collect, request)
            return cls(interpreter, code, environment_variables)

        return PendingDeployment(collect)

    @classmethod
    def git_repo(
        cls,
        repo_url: str,
        branch: str | None = None,
        commit: str | None = None,
        path_to_source: str | None = None,
        interpreter: AnyInterpreter | None = None,
        environment_variables: dict[str, str] | None = None,
        ssh_key_secret: Secret | None = None,
        editable_install: bool = True,
    ) -> Deployment:
        """Run code of a git repository; comes with a later version."""
        raise NotSupportedYet(
            f"Deployment.git_repo {LATER}: check the repository out and use Deployment.mirror_local"
        )

    @classmethod
    def preinstalled_interpreter(
        cls, path_to_interpreter: str, environment_variables: dict[str, str] | None = None
    ) -> Deployment:
        """Run by a Python of the cluster's image, with no code of this machine.

        Args:
            path_to_interpreter: such as "/opt/tools/bin/python"; `SHOAL_INTERPRETER` means the one
                that runs the worker.
            environment_variables: set where the code runs.
        """
        return cls(PreinstalledInterpreter(path_to_interpreter), None, environment_variables)


class PendingDeployment(Coroutine[Any, Any, Deployment]):
    """A Deployment that reads files when it is awaited.

    Unlike a plain coroutine it can be awaited more than once (each time reads the files again), and
    nobody complains if it never is: a module that builds one at its top level is also imported by
    workers.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Deployment]]) -> None:
        self._start = start
        self._running: Coroutine[Any, Any, Deployment] | None = None

    def __await__(self) -> Generator[Any, None, Deployment]:
        return self._start().__await__()

    def send(self, value: Any) -> Any:
        """Go on, as `asyncio.run` and tasks ask a coroutine to."""
        if self._running is None:
            self._running = self._start()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise inside."""
        if self._running is None:
            self._running = self._start()
        return self._running.throw(*error)

    def close(self) -> None:
        """Stop."""
        if self._running is not None:
            self._running.close()


def _texts(value: Iterable[str] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(os.fspath(text) for text in value)


def check_interpreter(interpreter: object) -> None:
    """Refuse what is no interpreter, or one that this version does not build."""
    if interpreter is None:
        return
    if isinstance(interpreter, ContainerInterpreterBase):
        secret = interpreter.username_password_secret
        if secret is not None and not isinstance(secret, KubernetesSecret):
            raise NotSupportedYet(
                f"{type(secret).__name__} {LATER}: make a Secret with `kubectl create secret "
                "docker-registry` and pass shoal.KubernetesSecret(its name)"
            )
    elif not isinstance(
        interpreter, (LocalInterpreter, InterpreterSpecFile, PreinstalledInterpreter)
    ):
        raise ConfigurationError(
            "interpreter must be one of Shoal's interpreters, such as "
            f"shoal.PipRequirementsFile(...), not {interpreter!r}"
        )
