"""Code of a git repository: one commit for all workers, with what its files say is installed."""

from __future__ import annotations

import asyncio
import hashlib
import sys

import asyncssh
import cloudpickle
import pytest
from git_server import TOKEN, USER, GitServer, secret
from namespaces import Place
from package_index import serve, wheel
from package_index import url as url_of_index

import shoal
from shoal.errors import CommandFailedException, EnvironmentFailed
from shoal.kube import DEPLOYMENTS

cloudpickle.register_pickle_by_value(sys.modules[__name__])

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = f"docker.io/library/python:{PYTHON}-slim"
CODE = {
    "src/tool/__init__.py": "",
    "src/tool/work.py": "def where():\n    return open('data.txt').read(), __file__\n",
    "data.txt": "the first",
}
BACKEND = """
import base64, hashlib, os, zipfile
def build_editable(folder, settings=None, metadata=None):
    name = "tool-1.0-py3-none-any.whl"
    files = {
        "tool.pth": os.path.abspath("src") + "\\n",
        "tool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: tool\\nVersion: 1.0\\n",
        "tool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\n"
        "Tag: py3-none-any\\n",
        "tool-1.0.dist-info/entry_points.txt": "[console_scripts]\\nwork = tool.script:main\\n",
    }
    rows = []
    with zipfile.ZipFile(os.path.join(folder, name), "w") as made:
        for path, text in files.items():
            made.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            rows.append("%s,sha256=%s,%d" % (path, digest.rstrip(b"=").decode(), len(text)))
        rows.append("tool-1.0.dist-info/RECORD,,")
        made.writestr("tool-1.0.dist-info/RECORD", "\\n".join(rows))
    return name
"""
PROJECT = {
    **CODE,
    "src/tool/script.py": "import tone\ndef main():\n    print('works', tone.TONE)\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
    'backend-path = ["."]\n[project]\nname = "tool"\nversion = "1.0"\n',
    "backend.py": BACKEND,
    "requirements.txt": "tone==2.0\n",
}
WHEELS = dict(
    [
        wheel("tone", "2.0", {"tone.py": "TONE = 'softly'\n"}),
        wheel("tone", "2.1", {"tone.py": "TONE = 'loudly'\n"}),
    ]
)


async def commits(place: Place) -> list[str]:
    found = (await place.api.list(DEPLOYMENTS, place.namespace))["items"]
    told = [one["status"].get("environment", {}) for one in found]
    return [one["commit"] for one in told if "commit" in one]


async def test_a_branch_as_it_is_when_a_job_comes(user: Place, git: GitServer, tools: None) -> None:
    first = await git.commit("code", CODE)
    opened = await secret(user, authority=git.authority)
    here = shoal.Deployment.git_repo(git.https("code"), path_to_source="src", ssh_key_secret=opened)
    found = await shoal.run_function("tool.work.where", user.host(), None, here)
    assert found == ("the first", "/shoal/environment/source/src/tool/work.py")
    assert await commits(user) == [first]
    second = await git.commit("code", {"data.txt": "the second"})
    found = await shoal.run_function("tool.work.where", user.host(), None, here)
    assert found[0] == "the second"
    assert set(await commits(user)) == {first, second}


async def test_a_branch_that_has_not_moved_finds_warm_workers(
    user: Place, git: GitServer, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's git knows the server too."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(git.folder / "server.crt"))
    first = await git.commit(
        "code", {"app.py": "import os\ndef f():\n    return os.environ['SHOAL_POD_NAME']\n"}
    )
    opened = await secret(user, authority=git.authority)
    here = shoal.Deployment.git_repo(git.https("code"), ssh_key_secret=opened)
    one, other = [await shoal.run_function("app.f", user.host(), None, here) for _ in range(2)]
    assert one == other
    assert await commits(user) == [first]
    second = await git.commit("code", {"app.py": "def f():\n    return 'moved'\n"})
    assert await shoal.run_function("app.f", user.host(), None, here) == "moved"
    assert set(await commits(user)) == {first, second}


async def test_all_workers_of_a_map_have_one_commit(
    user: Place, git: GitServer, tools: None
) -> None:
    files = {"one.py": "import time\ndef f(n):\n    time.sleep(0.1)\n    return open('v').read()\n"}
    await git.commit("code", {**files, "v": "1"})
    opened = await secret(user, authority=git.authority)
    here = shoal.Deployment.git_repo(git.https("code"), ssh_key_secret=opened)
    seen = set()
    async for task in await shoal.run_map_as_completed(
        "one.f", range(40), user.host(), None, here, num_concurrent_tasks=2
    ):
        if not seen:
            await git.commit("code", {"v": "2"})
        seen.add(task.result_or_raise())
    assert seen == {"1"}
    assert len(await commits(user)) == 1


async def test_a_private_repository_over_ssh_at_a_commit(
    user: Place, git: GitServer, tools: None, capsys: pytest.CaptureFixture[str]
) -> None:
    old = await git.commit("private-code", CODE)
    await git.commit("private-code", {"data.txt": "newer"})
    opened = await secret(user, key=git.private_key, known_hosts=git.known_hosts)
    for commit in (old, old[:9]):
        here = shoal.Deployment.git_repo(
            git.ssh("private-code"), commit=commit, ssh_key_secret=opened
        )
        await shoal.run_command("cat data.txt", user.host(), None, here)
        assert "the first" in capsys.readouterr().out
    assert await commits(user) == [old, old]


async def test_a_project_is_installed_in_place_with_a_token(
    user: Place, git: GitServer, tools: None, capsys: pytest.CaptureFixture[str]
) -> None:
    await git.commit("private-project", PROJECT)
    opened = await secret(user, username=USER, password=TOKEN, authority=git.authority)
    index = f"--index-url {await serve(user, WHEELS, IMAGE)}"
    commit = await git.commit(
        "private-project", {"requirements.txt": f"{index}\ntone==2.0\n"}, branch="side"
    )
    pip = shoal.PipRequirementsFile("requirements.txt", PYTHON)
    url = git.https("private-project")
    here = shoal.Deployment.git_repo(url, "side", None, "src", pip, None, opened)
    await shoal.run_command("work", user.host(), None, here)
    assert "works softly" in capsys.readouterr().out
    assert await commits(user) == [commit]
    plain = shoal.Deployment.git_repo(
        url, "side", None, "src", pip, None, opened, editable_install=False
    )
    script = ["python", "-c", "from tool.script import main; main()"]
    await shoal.run_command(script, user.host(), None, plain)
    assert "works softly" in capsys.readouterr().out
    with pytest.raises(CommandFailedException):
        await shoal.run_command("work", user.host(), None, plain)


async def test_locks_of_projects(
    user: Place, git: GitServer, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_PACKAGE_INDEX", await serve(user, WHEELS, IMAGE))
    name = "tone-2.0-py3-none-any.whl"
    sha256 = hashlib.sha256(WHEELS[name]).hexdigest()
    server = url_of_index(user.namespace).removesuffix("/simple/")
    uv = f"""version = 1
requires-python = ">=3.9"
[[package]]
name = "app"
version = "0"
source = {{ virtual = "." }}
dependencies = [{{ name = "tone" }}]
[package.metadata]
requires-dist = [{{ name = "tone", specifier = "==2.0" }}]
[[package]]
name = "tone"
version = "2.0"
source = {{ registry = "{server}/simple/" }}
wheels = [{{ url = "{server}/files/{name}", hash = "sha256:{sha256}" }}]
"""
    poetry = f"""[[package]]
name = "tone"
version = "2.0"
optional = false
groups = ["main"]
files = [{{file = "{name}", hash = "sha256:{sha256}"}}]
[metadata]
lock-version = "2.1"
"""
    project = '[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.9"\n'
    files = {
        "app.py": "import tone\ndef f():\n    return tone.TONE\n",
        "with-uv/pyproject.toml": f'{project}dependencies = ["tone==2.0"]\n',
        "with-uv/uv.lock": uv,
        "with-poetry/poetry.lock": poetry,
        "script.py": '# /// script\n# dependencies = ["tone<2.1"]\n# ///\n',
    }
    await git.commit("code", files)
    opened = await secret(user, authority=git.authority)
    interpreters = [
        shoal.UvProjectPath("with-uv", PYTHON),
        shoal.PoetryProjectPath("with-poetry", PYTHON),
        shoal.ScriptRequirements("script.py", PYTHON),
    ]
    runs = [
        shoal.run_function(
            "app.f",
            user.host(),
            None,
            shoal.Deployment.git_repo(
                git.https("code"), interpreter=one, ssh_key_secret=opened, editable_install=False
            ),
        )
        for one in interpreters
    ]
    assert await asyncio.gather(*runs) == ["softly"] * 3


async def test_submodules_and_packages_of_git_in_an_image_of_the_users(
    user: Place, git: GitServer, tools: None
) -> None:
    await git.commit("tone", {"sub.py": "TONE = 'from a submodule'\n"})
    await git.commit("code", {"app.py": "import sub.sub\ndef f():\n    return sub.sub.TONE\n"})
    await git.add_submodule("code", "sub", git.https("tone"), "tone")
    opened = await secret(user, authority=git.authority)
    image = shoal.ContainerInterpreter("docker.io/library/python", f"{PYTHON}-slim")
    here = shoal.Deployment.git_repo(git.https("code"), interpreter=image, ssh_key_secret=opened)
    assert await shoal.run_function("app.f", user.host(), None, here) == "from a submodule"


async def test_what_cannot_be_had_is_told_in_gits_words(
    user: Place, git: GitServer, tools: None
) -> None:
    await git.commit("private-code", CODE)
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    secrets = {
        "good": {"key": git.private_key, "known_hosts": git.known_hosts},
        "stranger": {"key": key, "known_hosts": git.known_hosts},
        "hostless": {"key": git.private_key},
        "token": {"username": USER, "password": "wrong", "authority": git.authority},
    }
    opened = {name: await secret(user, name, **data) for name, data in secrets.items()}
    missing = shoal.KubernetesSecret("nowhere")
    https, ssh = git.https("private-code"), git.ssh("private-code")
    cases = [
        (git_repo(ssh, opened["good"], branch="nope"), "Remote branch nope not found"),
        (git_repo(ssh, opened["good"], commit="0" * 40), "0" * 40),
        (git_repo(ssh, opened["good"], commit="abcdef1"), "abcdef1"),
        (git_repo(ssh, opened["stranger"]), "Permission denied"),
        (git_repo(ssh, opened["hostless"]), "Host key verification failed"),
        (git_repo(https, opened["token"]), "Authentication failed"),
        (git_repo(https, opened["good"]), "certificate"),
        (git_repo(https, missing), "secrets/nowhere does not exist"),
        (
            git_repo(ssh, opened["good"], path="lib"),
            "the repository has no folder lib (path_to_source",
        ),
    ]
    runs = [shoal.run_command("true", user.host(), None, here) for here, _ in cases]
    found = await asyncio.gather(*runs, return_exceptions=True)
    for error, (here, words) in zip(found, cases, strict=True):
        assert isinstance(error, EnvironmentFailed), (here, error)
        assert words in str(error)
    assert not await commits(user)


def git_repo(
    url: str,
    opened: shoal.KubernetesSecret,
    *,
    branch: str | None = None,
    commit: str | None = None,
    path: str | None = None,
) -> shoal.Deployment:
    return shoal.Deployment.git_repo(url, branch, commit, path, ssh_key_secret=opened)
