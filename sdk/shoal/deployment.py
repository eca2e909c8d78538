"""Where code runs: an interpreter, the user's code, environment variables.

A `Deployment` is a description; the custom resource of the same name (`shoal.resources`) is made
from it at submit. `Deployment.mirror_local()` can be awaited, or handed over as it is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shoal.errors import ConfigurationError
from shoal.interpreters import (
    ActiveEnvironment,
    AwsSecret,
    AzureSecret,
    ContainerAtDigestInterpreter,
    ContainerInterpreter,
    ContainerInterpreterBase,
    InterpreterSpecFile,
    KubernetesSecret,
    LocalInterpreter,
    PreinstalledInterpreter,
    Secret,
)
from shoal.variables import ConfigMapKeyRef, ConfigMapRef, SecretKeyRef, SecretRef

if TYPE_CHECKING:
    from shoal.interpreters import AnyInterpreter

    VariableValue = str | SecretKeyRef | ConfigMapKeyRef
_VALUES = (str, SecretKeyRef, ConfigMapKeyRef)
LATER = "comes with a later version"


@dataclass(frozen=True)
class CodePart:
    """Some files of this machine, as a zip.

    Attributes:
        archive: the zip.
        sha256: its digest in hexadecimal, and its name in the bucket.
    """

    archive: bytes = field(repr=False)
    sha256: str

    @property
    def size(self) -> int:
        """Return the zip's size in bytes."""
        return len(self.archive)


@dataclass(frozen=True, repr=False)
class MirroredCode:
    """Code of this machine, in parts that are unpacked into one folder.

    Attributes:
        parts: zips that have no file in common.
        sys_paths: folders therein that go on sys.path, in this order.
        working_directory: the folder therein that stands for the current one.
        files: the number of files.
        unpacked_size: the bytes of all files.
    """

    parts: tuple[CodePart, ...]
    sys_paths: tuple[str, ...]
    working_directory: str
    files: int
    unpacked_size: int

    @property
    def size(self) -> int:
        """Return the size of all zips in bytes."""
        return sum(part.size for part in self.parts)

    @property
    def summary(self) -> str:
        """Return how much it is, for people."""
        files = "1 file" if self.files == 1 else f"{self.files} files"
        parts = "1 part" if len(self.parts) == 1 else f"{len(self.parts)} parts"
        return (
            f"code: {files} of {self.unpacked_size / 1e6:.1f} MB, "
            f"packed {self.size / 1e6:.1f} MB in {parts}"
        )

    def __repr__(self) -> str:
        return f"<{self.summary}; sys.path: {', '.join(self.sys_paths) or 'nothing'}>"


@dataclass(frozen=True)
class GitRepository:
    """Code of a git repository, of which all workers have the same commit.

    Attributes:
        url: such as "https://github.com/org/repo" or "git@github.com:org/repo.git".
        branch: a branch or tag, as it is when the job comes.
        commit: in hexadecimal; either this or the branch.
        path: the folder that goes on sys.path, from the repository's root on.
        secret: what opens the repository, if it is private.
        editable: install the project itself, where the interpreter's file is one of a project.
    """

    url: str
    branch: str | None = None
    commit: str | None = None
    path: str = "."
    secret: Secret | None = None
    editable: bool = True

    def __post_init__(self) -> None:
        """Refuse what names no commit, and passwords that others could read."""
        if (self.branch is None) == (self.commit is None):
            raise ConfigurationError("git_repo: give either branch or commit")
        if not isinstance(self.url, str) or re.match(r"^https?://[^/]*@", self.url):
            raise ConfigurationError(
                "git_repo: repo_url is a URL without user and password, which others could read: "
                "put them in a Secret, and pass it as ssh_key_secret"
            )


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
        for folder in folders:
            if not os.path.isdir(os.path.join(here, os.path.expanduser(folder))):
                raise ConfigurationError(f"additional_sys_paths: there is no folder {folder}")
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
        environment_variables: set where the code runs. Whoever may read the custom resource can
            read the strings; what is secret stands in a Secret, which a `SecretKeyRef` names.
        env_from: Secrets and ConfigMaps of which each key is a variable.
        git: a repository with the code, in place of `code`.
    """

    interpreter: AnyInterpreter | None = None
    code: MirroredCode | None = None
    environment_variables: Mapping[str, VariableValue] | None = None
    env_from: Sequence[SecretRef | ConfigMapRef] = ()
    git: GitRepository | None = None

    def __post_init__(self) -> None:
        """Refuse what this version does not carry out."""
        check_interpreter(self.interpreter)
        if self.git is not None and isinstance(self.interpreter, LocalInterpreter):
            raise ConfigurationError(
                f"git_repo: {type(self.interpreter).__name__} is an interpreter of this machine: "
                "name a file of the repository, such as "
                'shoal.PipRequirementsFile("requirements.txt", "3.11")'
            )
        for name, value in (self.environment_variables or {}).items():
            if not isinstance(name, str) or not isinstance(value, _VALUES):
                raise ConfigurationError(
                    "environment_variables must map str to str, shoal.SecretKeyRef(...) or "
                    f"shoal.ConfigMapKeyRef(...); {name!r} is {value!r}"
                )
        if not isinstance(self.env_from, (list, tuple)):
            raise ConfigurationError(f"env_from must be a list, not {self.env_from!r}")
        for source in self.env_from:
            if not isinstance(source, (SecretRef, ConfigMapRef)):
                raise ConfigurationError(
                    "env_from must hold shoal.SecretRef(...) and shoal.ConfigMapRef(...), not "
                    f"{source!r}"
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
        environment_variables: Mapping[str, VariableValue] | None = None,
        env_from: Sequence[SecretRef | ConfigMapRef] = (),
    ) -> Deployment:
        """Run in the image repository:tag, with no code of this machine."""
        image = ContainerInterpreter(repository, tag, username_password_secret)
        return cls(image, None, environment_variables, env_from)

    @classmethod
    def container_image_at_digest(
        cls,
        repository: str,
        digest: str,
        username_password_secret: Secret | None = None,
        environment_variables: Mapping[str, VariableValue] | None = None,
        env_from: Sequence[SecretRef | ConfigMapRef] = (),
    ) -> Deployment:
        """Run in the image repository@digest, with no code of this machine."""
        image = ContainerAtDigestInterpreter(repository, digest, username_password_secret)
        return cls(image, None, environment_variables, env_from)

    @classmethod
    def mirror_local(
        cls,
        include_sys_path: bool = True,
        additional_sys_paths: Iterable[str] | str = (),
        include_sys_path_contents: bool | Iterable[str] | str = True,
        interpreter: AnyInterpreter | None = None,
        globs: Iterable[str] | str | None = None,
        environment_variables: Mapping[str, VariableValue] | None = None,
        env_from: Sequence[SecretRef | ConfigMapRef] = (),
    ) -> PendingDeployment:
        """Run with the code of this machine.

        Args:
            include_sys_path: take the folders on sys.path, except the interpreter's own.
            additional_sys_paths: more folders, as if they were on sys.path.
            include_sys_path_contents: upload the .py and .so files of those folders; or a list of
                extensions to upload instead; or False to upload only what `globs` says.
            interpreter: whose packages are installed once in the cluster; None means the
                environment that is active here (`ActiveEnvironment`). Or a container image.
            globs: more files, by patterns relative to the current folder ("**" goes deep). Files
                outside of the current folder's parent and of the folders above are a ValueError.
            environment_variables: set where the code runs.
            env_from: Secrets and ConfigMaps of which each key is a variable there.

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
            chosen = interpreter or ActiveEnvironment()
            return cls(chosen, code, environment_variables, env_from)

        return PendingDeployment(collect)

    @classmethod
    def git_repo(
        cls,
        repo_url: str,
        branch: str | None = None,
        commit: str | None = None,
        path_to_source: str | None = None,
        interpreter: AnyInterpreter | None = None,
        environment_variables: Mapping[str, VariableValue] | None = None,
        ssh_key_secret: Secret | None = None,
        editable_install: bool = True,
        env_from: Sequence[SecretRef | ConfigMapRef] = (),
    ) -> Deployment:
        """Run code of a git repository, in its root folder; the cluster checks it out once.

        Args:
            repo_url: such as "https://github.com/org/repo" or "git@github.com:org/repo.git".
            branch: a branch or tag; "main" if there is no commit either. It is looked up when a job
                comes, once for all its workers; the status of the Deployment tells the commit.
            commit: in hexadecimal, in place of a branch.
            path_to_source: the folder of the repository that goes on sys.path, if not its root.
            interpreter: one that is a file, such as a PipRequirementsFile, whose path is one of
                the repository; or a container image, or a PreinstalledInterpreter.
            environment_variables: set where the code runs.
            ssh_key_secret: of a private repository: a Secret of the namespace with
                `ssh-privatekey` (and `known_hosts`), or `username` and `password` (or a token).
            editable_install: whether the project beside the interpreter's file is itself
                installed, so that its console scripts can be run.
            env_from: Secrets and ConfigMaps of which each key is a variable there.

        Raises:
            ConfigurationError: a ValueError: both branch and commit; a password in the URL.
        """
        if branch is None and commit is None:
            branch = "main"
        path = path_to_source or "."
        git = GitRepository(repo_url, branch, commit, path, ssh_key_secret, editable_install)
        return cls(interpreter, None, environment_variables, env_from, git)

    @classmethod
    def preinstalled_interpreter(
        cls,
        path_to_interpreter: str,
        environment_variables: Mapping[str, VariableValue] | None = None,
        env_from: Sequence[SecretRef | ConfigMapRef] = (),
    ) -> Deployment:
        """Run by a Python of the cluster's image, with no code of this machine.

        Args:
            path_to_interpreter: such as "/opt/tools/bin/python"; `SHOAL_INTERPRETER` means the one
                that runs the worker.
            environment_variables: set where the code runs.
            env_from: Secrets and ConfigMaps of which each key is a variable there.
        """
        return cls(
            PreinstalledInterpreter(path_to_interpreter), None, environment_variables, env_from
        )


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
        if not isinstance(secret, (type(None), KubernetesSecret, AwsSecret, AzureSecret)):
            raise ConfigurationError(
                "username_password_secret must be shoal.KubernetesSecret(...), "
                f"shoal.AwsSecret(...) or shoal.AzureSecret(...), not {secret!r}"
            )
    elif not isinstance(
        interpreter, (LocalInterpreter, InterpreterSpecFile, PreinstalledInterpreter)
    ):
        raise ConfigurationError(
            "interpreter must be one of Shoal's interpreters, such as "
            f"shoal.PipRequirementsFile(...), not {interpreter!r}"
        )
