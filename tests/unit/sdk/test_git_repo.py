"""`Deployment.git_repo` becomes fields of the resource, or is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal import manifests
from shoal.errors import ConfigurationError
from shoal.git_branches import commit_of
from shoal.resources import InvalidResource

URL = "https://example.com/org/repo"


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What this machine's git can see: commits by branch."""
    found: dict[str, str] = {}
    monkeypatch.setattr(manifests, "commit_of", lambda _url, branch: found.get(branch))
    return found


async def environment(deployment: shoal.Deployment) -> Any:
    made = await shoal.run_command("true", shoal.Local(), None, deployment, dry_run=True)
    assert made is not None and made.spec.deployment is not None
    return made.spec.deployment.to_dict()["environment"]


async def test_the_branch_is_main_if_nothing_is_said() -> None:
    assert await environment(shoal.Deployment.git_repo(URL)) == {
        "git": {"url": URL, "branch": "main", "path": "."}
    }


async def test_a_branch_that_can_be_seen_from_here_is_a_commit(seen: dict[str, str]) -> None:
    seen["side"] = "d018b54"
    found = await environment(shoal.Deployment.git_repo(URL, "side"))
    assert found == {"git": {"url": URL, "commit": "d018b54", "path": "."}}


def test_branches_and_tags_are_looked_up_by_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "git"
    git.write_text(
        "#!/bin/sh\n"
        'printf "aaa\\trefs/tags/v1\\nbbb\\trefs/tags/v1^{}\\nccc\\trefs/heads/main\\n"\n'
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert commit_of(URL, "main") == "ccc"
    assert commit_of(URL, "v1") == "bbb"
    assert commit_of(URL, "nope") is None
    git.write_text("#!/bin/sh\nexit 128\n")
    assert commit_of(URL, "main") is None
    git.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(URL, "main") is None


@pytest.mark.parametrize(
    ("file_format", "named"),
    [(None, "conda"), ("env_export", "conda-env-export"), ("list", "conda-list")],
)
async def test_a_file_for_conda_is_read_by_the_builder(file_format: Any, named: str) -> None:
    interpreter = shoal.CondaEnvironmentFile("env/environment.yml", file_format)
    found = await environment(shoal.Deployment.git_repo(URL, interpreter=interpreter))
    assert found["git"]["packages"] == {"format": named, "path": "env/environment.yml"}


async def test_the_file_of_an_interpreter_is_one_of_the_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOAL_PACKAGE_INDEX", "https://example.com/simple")
    monkeypatch.setenv("SHOAL_DEBIAN_SOURCES", "deb https://example.com/debian bookworm main\n")
    interpreter = shoal.PoetryProjectPath("", "3.11", additional_software="libgomp1")
    secret = shoal.KubernetesSecret("git")
    found = await environment(
        shoal.Deployment.git_repo(
            "git@example.com:org/repo.git", None, "d018b54", "src", interpreter, None, secret
        )
    )
    assert found == {
        "git": {
            "url": "git@example.com:org/repo.git",
            "commit": "d018b54",
            "path": "src",
            "packages": {"format": "poetry", "path": "."},
            "editable": True,
            "secretName": "git",
        },
        "requirements": ["--index-url https://example.com/simple"],
        "software": ["libgomp1"],
        "softwareSources": ["deb https://example.com/debian bookworm main"],
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"branch": "main", "commit": "d018b54"}, "either branch or commit"),
        ({"repo_url": "https://me:secret@example.com/x"}, "without user and password"),
        ({"interpreter": shoal.LocalPipInterpreter("python")}, "an interpreter of this machine"),
        ({"interpreter": shoal.PipRequirementsFile("/x", "3.11")}, "not in the repository"),
        ({"interpreter": shoal.PipRequirementsFile("../x", "3.11")}, "not in the repository"),
    ],
)
async def test_what_cannot_be_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        await environment(shoal.Deployment.git_repo(**{"repo_url": URL, **arguments}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"repo_url": "file:///etc"},
        {"repo_url": "ext::sh -c true"},
        {"repo_url": "--upload-pack=true"},
        {"repo_url": "ssh://-oProxyCommand=true/x"},
        {"repo_url": "-oProxyCommand=true@x:y"},
        {"branch": "--orphan"},
        {"commit": "HEAD~1"},
        {"path_to_source": "../../etc"},
    ],
)
async def test_no_argument_is_taken_for_an_option(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidResource, match="git"):
        await environment(shoal.Deployment.git_repo(**{"repo_url": URL, **arguments}))


async def test_local_checks_nothing_out() -> None:
    with pytest.raises(shoal.NotSupportedYet, match=URL):
        await shoal.run_command("true", shoal.Local(), None, shoal.Deployment.git_repo(URL))
