"""`import shoal` is cheap, complete, and works in a plain Python image down to 3.9."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shoal

PACKAGE = Path(shoal.__file__).parent
OLDEST = (3, 9)
A_USERS_MODULE = """
import sys
sys.path.insert(0, sys.argv[1])
import shoal
from shoal import Deployment, Kubernetes, Local, Resources, run_map

host = Kubernetes(shoal.GenericStorageBucketSpec("bucket", "http://host:9000"), reusable_pods=False)
resources = Resources(logical_cpu=1, memory_gb=1.5, ephemeral_storage_gb=2)
mirrored = Deployment.mirror_local(globs="*.csv", interpreter=shoal.ContainerInterpreter("python"))
image = Deployment.container_image("python", "3.9-slim", shoal.KubernetesSecret("pull"))
token = {"TOKEN": shoal.SecretKeyRef("login", "token")}
private = Deployment(environment_variables=token, env_from=[shoal.ConfigMapRef("settings")])
local = Local()
result = shoal.TaskResult(0, True, "SUCCEEDED").result_or_raise()
assert result is None
try:
    raise shoal.TaskException("ValueError", "no", "Traceback ...")
except shoal.ShoalException as error:
    assert "Traceback" in str(error)
try:
    run_map(len, [[]], host)
except shoal.errors.SubmissionRefused as error:
    assert "__main__" in str(error), error
else:
    raise AssertionError("a worker could submit")
assert not any(name.startswith(("pydantic", "aiohttp", "kubernetes")) for name in sys.modules)
"""


def pythons() -> list[str]:
    """Return this Python, and the oldest one that can be found on this machine."""
    name = f"python{OLDEST[0]}.{OLDEST[1]}"
    places = [Path(word) for word in os.environ["PATH"].split(os.pathsep)]
    places += sorted(Path.home().glob(f".pyenv/versions/{OLDEST[0]}.{OLDEST[1]}.*/bin"))
    places += sorted(Path.home().glob(f".local/share/uv/python/cpython-{name[6:]}.*/bin"))
    for place in places:
        found = shutil.which(name, path=str(place))
        if found and subprocess.run([found, "-c", ""], check=False).returncode == 0:
            return [sys.executable, found]
    return [sys.executable]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder with the modules that a worker carries, and nothing else."""
    (tmp_path / "shoal").mkdir()
    for name in shoal.PLAIN_MODULES:
        shutil.copy(PACKAGE / f"{name}.py", tmp_path / "shoal")
    return tmp_path


@pytest.mark.parametrize("python", pythons())
def test_a_users_module_imports_without_dependencies(python: str, plain: Path) -> None:
    done = subprocess.run(
        [python, "-I", "-S", "-c", A_USERS_MODULE, str(plain)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", shoal.PLAIN_MODULES)
def test_a_plain_module_is_written_for_the_oldest_python(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(), feature_version=OLDEST)
    plain = {f"shoal.{module}" for module in shoal.PLAIN_MODULES} | {"shoal"}
    for node in imports_at_the_top(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.module in plain or node.module.split(".")[0] in sys.stdlib_module_names
        else:
            for alias in node.names:
                assert alias.name.split(".")[0] in sys.stdlib_module_names


def imports_at_the_top(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports that run when the module is imported."""
    return [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


def test_every_public_name_is_there() -> None:
    for name in shoal.__all__:
        assert getattr(shoal, name) is not None
    lazy = {name for names in shoal._HOMES.values() for name in names.split()}
    assert len(set(shoal.__all__)) == len(shoal.__all__)
    assert set(shoal.__all__) == lazy | set(shoal._MODULES) | {"__version__"}
    assert set(shoal.__all__) <= set(dir(shoal))


def test_the_names_for_type_checkers_are_the_lazy_ones() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.removeprefix("shoal.")
        for node in checked.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "shoal"
        for alias in node.names
    }
    assert seen == shoal._home_of


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        shoal.nonsense  # noqa: B018


def test_importing_shoal_loads_nothing_heavy() -> None:
    program = "import sys, json; import shoal; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"aiohttp", "asyncio", "cloudpickle", "kubernetes", "minio", "pydantic"}
    times = [import_milliseconds() for _ in range(3)]
    assert min(times) < 50


def import_milliseconds() -> float:
    words = [sys.executable, "-X", "importtime", "-c", "import shoal"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stderr.splitlines()
    whole = next(line for line in lines if line.rpartition("|")[2].strip() == "shoal")
    return int(whole.split("|")[1]) / 1000


def test_the_api_client_loads_none_of_the_librarys_model_classes() -> None:
    program = (
        "import sys, shoal.kube.config as c; c._library();"
        "print(sum('.models.' in name for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "0"
