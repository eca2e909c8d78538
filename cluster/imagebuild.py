"""Building an image from a Dockerfile, with docker or buildah, only when its content changed."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

from cluster import choice, commands, images
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.steps import say, step

#: What an editor or a test run leaves behind changes no image.
IGNORED = {"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
#: The machine's certificate authorities, seen by builds that have to fetch through them.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def list_images(folders: Folders) -> None:
    """Print the images that the cluster brings."""
    for image in images.table():
        state = "built" if image.is_built(folders) else "not built"
        print(f"{image.reference}  {state}  {image.archive(folders)}")


def build(folders: Folders, arguments: argparse.Namespace) -> Path:
    """The archive of the image, built unless the same content was built before."""
    dockerfile, context = arguments.dockerfile.resolve(), arguments.context.resolve()
    for path in (dockerfile, context):
        if not path.exists():
            raise ClusterError(f"{path} is not there")
    digest = content_digest(dockerfile, context, arguments.tag)
    name = arguments.tag.rpartition("/")[2].replace(":", "-")
    archive = folders.images / "built" / f"{name}-{digest[:16]}.tar"
    if archive.is_file():
        say(f"  {arguments.tag}: unchanged")
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    fresh = archive.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with step(f"building {arguments.tag}"):
        if choice.docker_answers():
            _with_docker(dockerfile, context, arguments.tag, fresh)
        else:
            _with_buildah(folders, dockerfile, context, arguments.tag, fresh)
    for older in archive.parent.glob(f"{name}-*.tar"):
        older.unlink()
    fresh.replace(archive)
    return archive


def content_digest(dockerfile: Path, context: Path, tag: str) -> str:
    """Of everything that the build can see: names, modes, bytes, and the base images."""
    digest = hashlib.sha256(tag.encode() + dockerfile.read_bytes())
    for image in bases(dockerfile):
        digest.update(image.digest().encode())
    for path in context_files(context):
        mode = path.lstat().st_mode & 0o111
        digest.update(f"\0{path.relative_to(context)}\0{mode}\0".encode())
        digest.update(os.readlink(path).encode() if path.is_symlink() else path.read_bytes())
    return digest.hexdigest()


def bases(dockerfile: Path) -> list[images.Image]:
    """The cluster's own images that the Dockerfile names."""
    words = dockerfile.read_text().split()
    return [image for image in images.table() if image.reference in words]


def context_files(context: Path) -> list[Path]:
    """Files that a build sees, without what is left behind by tests."""
    found = []
    for folder, below, names in os.walk(context):
        below[:] = sorted(set(below) - IGNORED)
        found += [Path(folder) / name for name in sorted(names) if not name.endswith(".pyc")]
    return found


def _with_docker(dockerfile: Path, context: Path, tag: str, target: Path) -> None:
    commands.run(["docker", "build", "-q", "-t", tag, "-f", dockerfile, context])
    commands.run(["docker", "save", "-o", target, tag])


def _with_buildah(
    folders: Folders, dockerfile: Path, context: Path, tag: str, target: Path
) -> None:
    """In a folder of its own, without an engine, on the images of the cluster's own table."""
    commands.require("buildah", "install Docker, or the Debian package buildah")
    _offer_bases(folders, dockerfile)
    see_authorities = f"{AUTHORITIES}:{AUTHORITIES}:ro"
    volumes = ["--volume", see_authorities] if AUTHORITIES.exists() else []
    local = ["--pull-never", "--layers=false", "--format", "docker"]
    _buildah(folders, "build", *local, *volumes, "-t", tag, "-f", dockerfile, context)
    _buildah(folders, "push", tag, f"docker-archive:{target}:{tag}")
    _buildah(folders, "rmi", tag)  # the archive is what is kept


def _offer_bases(folders: Folders, dockerfile: Path) -> None:
    """Put the images that the build stands on where buildah finds them by name."""
    for image in bases(dockerfile):
        mark = folders.buildah / f"{image.name}.digest"
        if mark.is_file() and mark.read_text() == image.digest():
            continue
        if not image.is_built(folders):
            image.build(folders)
        with step(f"offering {image.reference} to buildah"):
            _buildah(folders, "pull", f"docker-archive:{image.archive(folders)}")
        mark.write_text(image.digest())


def _buildah(folders: Folders, *words: str | Path) -> None:
    folders.buildah.mkdir(parents=True, exist_ok=True)
    own = ["--root", folders.buildah / "storage", "--runroot", folders.buildah_run]
    environment = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    commands.run(["buildah", *own, *words], environment=environment)
