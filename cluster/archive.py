"""Container images written without a registry or an engine: one layer in a `docker save` archive.

containerd, Docker, kind and buildah all read this form.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Files are dated so, so that the same content makes the same image.
EPOCH = 0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image starts."""

    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    folder: str = "/"

    def document(self, layer_digest: str) -> dict[str, object]:
        """The image configuration that containerd reads."""
        machine = platform.machine()
        return {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "Env": [f"{name}={value}" for name, value in self.environment.items()],
                "User": self.user,
                "WorkingDir": self.folder,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z"}],
        }


def write(target: Path, names: Sequence[str], layer: Path, config: ImageConfig) -> None:
    """Write the image of these `names` with the one uncompressed tar `layer` as its content."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    document = json.dumps(config.document(digest)).encode()
    config_name = f"{hashlib.sha256(document).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": list(names), "Layers": [layer_name]}]
    fresh = target.with_name(f".{target.name}.new")
    with tarfile.open(fresh, "w") as tar:
        _add(tar, config_name, document)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
        entry = tarfile.TarInfo(layer_name)
        entry.size = layer.stat().st_size
        with layer.open("rb") as file:
            tar.addfile(entry, file)
    fresh.replace(target)


def references(archive: Path) -> list[str]:
    """Names of the images that a `docker save` archive holds."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        if manifest is None:
            return []
        return [name for image in json.load(manifest) for name in image["RepoTags"] or []]


class Layer:
    """A tar to put files into, with owners and modes of our choosing."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w")  # noqa: SIM115  closed by close()

    def folder(self, name: str, *, mode: int = 0o755, owner: int = 0) -> None:
        """Add a folder."""
        entry = _entry(name, mode, owner)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def file(self, name: str, source: Path, *, mode: int = 0o755) -> None:
        """Add the file `source` under `name`."""
        entry = _entry(name, mode, 0)
        entry.size = source.stat().st_size
        with source.open("rb") as file:
            self._tar.addfile(entry, file)

    def text(self, name: str, content: str) -> None:
        """Add a file with this content."""
        entry = _entry(name, 0o644, 0)
        data = content.encode()
        entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))

    def close(self) -> None:
        """Finish the tar."""
        self._tar.close()


def _entry(name: str, mode: int, owner: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.uid, entry.gid, entry.mtime = mode, owner, owner, EPOCH
    return entry


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = _entry(name, 0o644, 0)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
