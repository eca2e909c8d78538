"""What a builder fetches once for all workers: packages, and a git repository."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .model import Model
from .rules import Rule, only_one_of
from .validation import CONDA_CHANNEL, CONDA_URL, GIT_BRANCH, GIT_COMMIT, GIT_URL
from .values import ObjectName, RelativePath

Requirement = Annotated[
    str,
    StringConstraints(pattern=r"^[^\n\r]*\S[^\n\r]*$", max_length=32768),
]


DebianPackage = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$", max_length=256),
]


CondaChannel = Annotated[
    str,
    StringConstraints(pattern=CONDA_CHANNEL, max_length=1024),
]


CondaPackage = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][^\n\r]*$", max_length=1024),
]


CondaUrl = Annotated[str, StringConstraints(pattern=CONDA_URL, max_length=2048)]


class Conda(Model):
    """Conda packages, Python among them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        only_one_of("packages", "explicit"),
        Rule(
            "has(self.channels) == has(self.packages)",
            "packages come from channels: set both, or neither beside explicit",
            holds=lambda c: (c.channels is None) == (c.packages is None),
        ),
    )
    channels: list[CondaChannel] | None = Field(
        default=None,
        min_length=1,
        max_length=50,
        description="Where packages come from, the first before the others: URLs, or names such as "
        "conda-forge.",
    )
    packages: list[CondaPackage] | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="Match specs, such as python=3.12 or numpy=2.1.*; what they need is added.",
    )
    explicit: list[CondaUrl] | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="URLs of packages, as `conda list --explicit` prints them, each with #MD5 or "
        "#sha256:SHA256 or none; nothing is added.",
    )


GitUrl = Annotated[str, StringConstraints(pattern=GIT_URL, max_length=2048)]
GitBranch = Annotated[str, StringConstraints(pattern=GIT_BRANCH, max_length=244)]
GitCommit = Annotated[str, StringConstraints(pattern=GIT_COMMIT, max_length=64)]


class GitPackages(Model):
    """A file of the repository that says which packages the code needs."""

    format: Literal["requirements", "uv", "poetry", "conda", "conda-env-export", "conda-list"] = (
        Field(
            description="requirements: a requirements.txt, or a script with its dependencies in it "
            "(PEP 723); uv: a folder with uv.lock; poetry: a folder with poetry.lock; conda: an "
            "environment.yml (conda-env-export) or an explicit list (conda-list), whichever it is."
        )
    )
    path: RelativePath = Field(
        default=".", description="The file or folder, from the repository's root on."
    )


class Git(Model):
    """A repository with the code: one commit of it, for all workers."""

    rules: ClassVar[tuple[Rule, ...]] = (only_one_of("branch", "commit"),)
    url: GitUrl = Field(
        description="Such as https://github.com/org/repo or git@github.com:org/repo.git; without "
        "user and password (see secretName)."
    )
    branch: GitBranch | None = Field(
        default=None,
        description="A branch or tag, as it is when the environment is built; a Job or MapJob with "
        "these fields of its own has it built anew.",
    )
    commit: GitCommit | None = Field(default=None, description="A commit, in hexadecimal.")
    path: RelativePath = Field(
        default=".",
        description="Folder of the repository that goes on sys.path. The code runs in its root.",
    )
    packages: GitPackages | None = Field(
        default=None, description="What is to be installed. Default: nothing."
    )
    editable: bool = Field(
        default=False,
        description="Whether the project in the packages' folder is itself installed, in place.",
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret of this namespace with username and password (or a token as password), "
        "or with ssh-privatekey; also known_hosts, ca.crt.",
    )
    run: str | None = Field(
        default=None,
        max_length=64,
        description="The operator's: uid of the run for which a branch is looked up.",
    )


class Environment(Model):
    """Code and packages that a builder Pod fetches once, and each worker unpacks."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.requirements) || has(self.conda) || has(self.software) || has(self.git)",
            "names nothing to install: set requirements, conda, software or git",
            holds=lambda e: any((e.requirements, e.conda, e.software, e.git)),
        ),
        Rule(
            "!has(self.softwareSources) || has(self.software) || has(self.git)",
            "softwareSources go with software: remove them",
            holds=lambda e: e.software_sources is None or any((e.software, e.git)),
        ),
    )
    git: Git | None = Field(
        default=None,
        description="A git repository with the code; it takes the place of `code`.",
    )
    requirements: list[Requirement] | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="Lines of a requirements.txt, such as numpy==2.3.1 or --extra-index-url URL. "
        "Nothing in them may lie on the machine that wrote them. They take the place of the "
        "image's own packages, and go beside those of conda.",
    )
    conda: Conda | None = Field(
        default=None,
        description="Conda packages. The code runs under the Python among them, whichever the "
        "image has.",
    )
    software: list[DebianPackage] | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Debian packages, such as libgomp1 or graphviz=2.42.2-7. They are unpacked "
        "without root, and put on PATH and LD_LIBRARY_PATH; their own scripts are not run.",
    )
    software_sources: list[Requirement] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Lines of a sources.list that software comes from. Default: the operator's, "
        "else the image's.",
    )
