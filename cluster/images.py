"""The images that the cluster itself brings, built once into the cache.

Each is a row of the table: a file name, the reference that Pods use, and how its layer is made.
A further minor version of Python is a further row with its own Debian suite.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import binaries, configuration, pinned, rootfs
from cluster.archive import ImageConfig, Layer, write
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.steps import step

#: The user of images that need none in particular; the same as in other images without a system.
NOBODY = 65532


@dataclass(frozen=True)
class Image:
    """One row of the table."""

    name: str
    reference: str
    config: ImageConfig
    #: Writes the layer's tar, and may build what it needs; returns what else the image is called.
    layer: Callable[[Folders, Path], list[str]]
    #: Changes when the content would.
    fingerprint: Callable[[], str]

    def archive(self, folders: Folders) -> Path:
        """Where its archive is, or will be."""
        return folders.images / f"{self.name}.tar"

    def digest(self) -> str:
        """Changes when the image would."""
        parts = [self.reference, self.fingerprint(), json.dumps(self.config.document(""))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def is_built(self, folders: Folders) -> bool:
        """Whether the archive is there, of this content."""
        mark = self._mark(folders)
        return (
            self.archive(folders).is_file() and mark.is_file() and mark.read_text() == self.digest()
        )

    def build(self, folders: Folders) -> None:
        """Make the archive."""
        with tempfile.TemporaryDirectory(dir=folders.images) as scratch:
            layer = Path(scratch) / "layer.tar"
            names = [self.reference, *self.layer(folders, layer)]
            write(self.archive(folders), names, layer, self.config)
        self._mark(folders).write_text(self.digest())

    def _mark(self, folders: Folders) -> Path:
        return folders.images / f"{self.name}.built"


def _pause_layer(folders: Folders, target: Path) -> list[str]:
    layer = Layer(target)
    layer.file("pause", folders.bin / "pause")
    layer.close()
    return []


def _minio_layer(folders: Folders, target: Path) -> list[str]:
    binaries.build(folders, [binaries.minio()])
    layer = Layer(target)
    for folder in ("etc", "usr", "usr/bin"):
        layer.folder(folder)
    layer.text("etc/passwd", f"minio:x:{NOBODY}:{NOBODY}::/data:/nologin\n")
    layer.text("etc/group", f"minio:x:{NOBODY}:\n")
    layer.folder("tmp", mode=0o1777)
    layer.folder("data", owner=NOBODY)
    layer.file("usr/bin/minio", folders.bin / "minio")
    layer.close()
    return []


def pause() -> Image:
    """What holds a Pod's namespaces."""
    binary = next(b for b in binaries.control_plane() if b.name == "pause")
    return Image(
        name="pause",
        reference=configuration.PAUSE_IMAGE,
        config=ImageConfig(entrypoint=["/pause"], user=f"{NOBODY}:{NOBODY}"),
        layer=_pause_layer,
        fingerprint=lambda: binaries.fingerprint(binary),
    )


def minio() -> Image:
    """The object storage, from scratch, without root."""
    return Image(
        name="minio",
        reference=f"localhost/shoal-minio:{pinned.minio()}",
        config=ImageConfig(
            entrypoint=["/usr/bin/minio"],
            command=["server", "/data"],
            environment={"PATH": "/usr/bin", "HOME": "/data"},
            user=f"{NOBODY}:{NOBODY}",
        ),
        layer=_minio_layer,
        fingerprint=lambda: binaries.fingerprint(binaries.minio()),
    )


def python(minor: str, suite: str) -> Image:
    """Debian's own Python `minor` under the names of the images that others call slim."""

    def layer(folders: Folders, target: Path) -> list[str]:
        exact = rootfs.python_layer(folders, suite, target)
        if not exact.startswith(f"{minor}."):
            raise ClusterError(
                f"versions.toml: Debian {suite} has Python {exact}, not {minor}: correct [python]"
            )
        return [_python_reference(exact)]

    return Image(
        name=f"python-{minor}-slim",
        reference=_python_reference(minor),
        config=ImageConfig(
            command=["python3"],
            environment={
                "PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
                "LANG": "C.UTF-8",
            },
        ),
        layer=layer,
        fingerprint=lambda: rootfs.fingerprint(suite),
    )


def _python_reference(version: str) -> str:
    return f"docker.io/library/python:{version}-slim"


def table() -> list[Image]:
    """Every image of this cluster, the ones that are needed first first."""
    pythons = pinned.versions()["python"]
    return [pause(), *(python(minor, suite) for minor, suite in pythons.items()), minio()]


def build(folders: Folders) -> None:
    """Build those that are missing or of another version."""
    folders.images.mkdir(parents=True, exist_ok=True)
    for image in table():
        if not image.is_built(folders):
            with step(f"building image {image.reference}"):
                image.build(folders)


def archives(folders: Folders) -> list[Path]:
    """The archives of all images."""
    return [image.archive(folders) for image in table()]
