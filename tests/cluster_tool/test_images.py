"""Images written by hand, and when they are built again."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster.errors import ClusterError

from cluster import archive, binaries, environment, folders, imagebuild, images, pinned, rootfs


def test_an_archive_names_its_image_and_its_layer(tmp_path: Path) -> None:
    layer = archive.Layer(tmp_path / "layer.tar")
    layer.folder("data", owner=65532)
    layer.text("etc/hello", "world")
    layer.close()
    target = tmp_path / "image.tar"
    config = archive.ImageConfig(entrypoint=["/bin/x"], user="65532:65532")
    archive.write(target, ["localhost/x:1", "localhost/x:1.2"], tmp_path / "layer.tar", config)

    assert archive.references(target) == ["localhost/x:1", "localhost/x:1.2"]
    with tarfile.open(target) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())[0]  # type: ignore[union-attr]
        document = json.loads(tar.extractfile(manifest["Config"]).read())  # type: ignore[union-attr]
        assert manifest["Layers"][0] in tar.getnames()
    assert document["config"]["User"] == "65532:65532"


def test_the_table_has_each_name_once_and_no_tag_latest() -> None:
    references = [image.reference for image in images.table()]
    assert len(set(references)) == len(references)
    assert not any(reference.endswith(":latest") for reference in references)
    assert "docker.io/library/python:3.11-slim" in references
    assert "docker.io/library/python:3.13-slim" in references


def test_a_python_is_called_by_its_exact_version_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = folders.from_environment({"SHOAL_CACHE": str(tmp_path)})
    places.images.mkdir()

    def layer_of(exact: str) -> Callable[[folders.Folders, str, Path], str]:
        def layer(_places: folders.Folders, suite: str, target: Path) -> str:
            archive.Layer(target).close()
            return exact

        return layer

    image = images.python("3.13", "trixie")
    monkeypatch.setattr(rootfs, "python_layer", layer_of("3.13.5"))
    image.build(places)
    assert archive.references(image.archive(places)) == [
        "docker.io/library/python:3.13-slim",
        "docker.io/library/python:3.13.5-slim",
    ]
    monkeypatch.setattr(rootfs, "python_layer", layer_of("3.14.1"))
    with pytest.raises(ClusterError, match=r"trixie has Python 3\.14\.1, not 3\.13"):
        image.build(places)


def test_a_build_stands_on_the_images_that_its_dockerfile_names(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM docker.io/library/python:3.13-slim AS build\nRUN true\n")
    assert [image.name for image in imagebuild.bases(dockerfile)] == ["python-3.13-slim"]


def test_what_is_built_is_another_when_the_context_or_the_tag_changes(tmp_path: Path) -> None:
    dockerfile, context = tmp_path / "Dockerfile", tmp_path / "context"
    context.mkdir()
    dockerfile.write_text("FROM scratch\n")
    (context / "a").write_text("1")
    first = imagebuild.content_digest(dockerfile, context, "x:1")
    assert imagebuild.content_digest(dockerfile, context, "x:1") == first
    assert imagebuild.content_digest(dockerfile, context, "x:2") != first
    (context / "__pycache__").mkdir()
    (context / "__pycache__/a.pyc").write_text("left by a test run")
    assert imagebuild.content_digest(dockerfile, context, "x:1") == first
    (context / "a").write_text("2")
    assert imagebuild.content_digest(dockerfile, context, "x:1") != first


def test_a_binary_is_of_another_build_when_its_flags_change() -> None:
    plain = binaries.Binary("x", "pause", "shoal.dev/cluster/pause")
    named = binaries.Binary("x", "pause", "shoal.dev/cluster/pause", (("a.b", "1"),))
    assert binaries.fingerprint(plain) != binaries.fingerprint(named)


def test_versions_come_from_the_module_files() -> None:
    assert (
        pinned.required_version("require k8s.io/kubernetes v1.2.3\n", "k8s.io/kubernetes")
        == "v1.2.3"
    )
    assert pinned.kubernetes().startswith("v1.")
    assert pinned.minio().isdigit()
    assert binaries.go_version("go1.26.8") > binaries.go_version("1.24") > (1, 9)


def test_the_cache_is_where_the_environment_says() -> None:
    assert folders.from_environment({"SHOAL_CACHE": "/c"}).cache == Path("/c")
    assert folders.from_environment({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/shoal")
    assert folders.from_environment({"HOME": "/h"}).cache == Path("/h/.cache/shoal")


def test_the_environment_puts_the_bin_folder_first_once() -> None:
    values = environment.variables(
        kubeconfig=Path("/k"),
        bin_folder=Path("/b"),
        endpoint="http://e:1",
        environ={"PATH": "/usr/bin:/b"},
    )
    assert values["PATH"] == "/b:/usr/bin"
    assert environment.export_lines({"A": "x y"}) == "export A='x y'\n"
