"""Programs built from Go modules into the cache's ``bin``, once for each pinned version."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cluster import commands, pinned
from cluster.errors import MissingTool
from cluster.folders import Folders
from cluster.steps import step

FLAGS = ("-trimpath", "-buildvcs=false")
STRIP = "-s -w"


@dataclass(frozen=True)
class Binary:
    """One program: where it is pinned, and what is built."""

    name: str
    #: The folder under ``modules`` whose go.mod pins it.
    module: str
    package: str
    #: Variables set at link time, where a program tells its version only so.
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def linker_flags(self) -> str:
        """Flags for the linker: no symbols, and the version where it is set so."""
        return " ".join([STRIP, *(f"-X {name}={value}" for name, value in self.variables)])


def _kubernetes_variables() -> tuple[tuple[str, str], ...]:
    version = pinned.kubernetes()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    at = "k8s.io/component-base/version"
    return (
        (f"{at}.gitVersion", version),
        (f"{at}.gitMajor", major),
        (f"{at}.gitMinor", minor),
        (f"{at}.gitTreeState", "clean"),
    )


def _of_kubernetes(name: str) -> Binary:
    return Binary(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _kubernetes_variables())


def control_plane() -> list[Binary]:
    """What the embedded cluster runs, the longest build first."""
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    pause = Binary("pause", "pause", "shoal.dev/cluster/pause")
    return [*map(_of_kubernetes, names), coredns(), pause]


def coredns() -> Binary:
    """The cluster's DNS."""
    return Binary("coredns", "coredns", "github.com/coredns/coredns")


def kubectl() -> Binary:
    """The client of the cluster's own version."""
    return _of_kubernetes("kubectl")


def helm() -> Binary:
    """Helm 3."""
    version = pinned.module_version("helm", "helm.sh/helm/v3")
    variable = ("helm.sh/helm/v3/internal/version.version", version)
    # Helm renders charts for the Kubernetes that its client library was made for.
    major, minor, _ = pinned.kubernetes().removeprefix("v").split(".", 2)
    at = "helm.sh/helm/v3/pkg"
    known = [
        (f"{at}/{package}.k8sVersion{part}", value)
        for package in ("lint/rules", "chartutil")
        for part, value in (("Major", major), ("Minor", minor))
    ]
    return Binary("helm", "helm", "helm.sh/helm/v3/cmd/helm", (variable, *known))


def minio() -> Binary:
    """The object storage, run in a Pod."""
    return Binary("minio", "minio", "github.com/minio/minio")


def tools() -> list[Binary]:
    """What a client outside the cluster calls."""
    return [kubectl(), helm()]


def fingerprint(binary: Binary) -> str:
    """Changes when the program that a build would make changes."""
    digest = hashlib.sha256("\0".join([binary.package, *FLAGS, binary.linker_flags]).encode())
    folder = pinned.MODULES / binary.module
    for file in sorted([*folder.glob("go.*"), *folder.glob("*.go")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def is_built(folders: Folders, binary: Binary) -> bool:
    """Whether the binary is there, of the version that is pinned now."""
    mark = _mark(folders, binary)
    built = folders.bin / binary.name
    return built.is_file() and mark.is_file() and mark.read_text() == fingerprint(binary)


def build(folders: Folders, wanted: list[Binary]) -> None:
    """Build those of `wanted` that are missing or of another version."""
    missing = [binary for binary in wanted if not is_built(folders, binary)]
    if not missing:
        return
    require_go()
    folders.bin.mkdir(parents=True, exist_ok=True)
    for binary in missing:
        with step(f"building {binary.name} from its Go module"):
            _build(folders, binary)


def _build(folders: Folders, binary: Binary) -> None:
    target = folders.bin / binary.name
    fresh = target.with_name(f".{binary.name}.new")
    commands.run(
        [
            *("go", "build", "-mod=readonly", *FLAGS),
            *("-ldflags", binary.linker_flags, "-o", fresh, binary.package),
        ],
        folder=pinned.MODULES / binary.module,
        environment={"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""},
    )
    # A program that runs can't be written to, but its name can be given to another file.
    fresh.replace(target)
    mark = _mark(folders, binary)
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(fingerprint(binary))


def _mark(folders: Folders, binary: Binary) -> Path:
    return folders.bin / ".built" / binary.name


def require_go() -> None:
    """Raises MissingTool where there is no Go, or one that is too old."""
    minimum = pinned.versions()["go"]["minimum"]
    remedy = f"install Go {minimum} or newer (https://go.dev/doc/install), with `go` in PATH"
    commands.require("go", remedy)
    found = commands.output(["go", "env", "GOVERSION"]).strip()
    if go_version(found) < go_version(minimum):
        raise MissingTool(f"Go here is {found}, too old: {remedy}")


def go_version(text: str) -> tuple[int, int]:
    """``go1.26.8`` → (1, 26)."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
