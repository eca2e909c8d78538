"""Lists in the docs are whole: settings, reasons, exceptions, Make's targets, parameters."""

from __future__ import annotations

import inspect
import re

from snippets import ROOT

import shoal
from shoal import errors, resources
from shoal_operator.reasons import QUIET, Reason
from shoal_operator.settings import PREFIX


def words(page: str) -> set[str]:
    return set(re.findall(r"\w+", (ROOT / page).read_text()))


def test_every_setting_of_the_operator_is_documented() -> None:
    source = (ROOT / "operator" / "shoal_operator" / "settings.py").read_text()
    names = set(re.findall(r'read\.\w+\(\s*"([A-Z_]+)"', source))
    assert len(names) > 20
    assert {PREFIX + name for name in names} == {
        word for word in words("docs/install.md") if word.startswith(PREFIX)
    }


def test_every_reason_has_a_remedy() -> None:
    silent = QUIET - {Reason.CANCELLED} | {Reason.PARALLELISM_CAPPED}
    missing = {str(r) for r in Reason if r not in silent} - words("docs/troubleshooting.md")
    assert not missing


def test_every_exception_of_the_client_is_explained() -> None:
    known = words("docs/troubleshooting.md") | words("docs/python.md")
    bases = {"JobFailedException", "ShoalException", "StorageError", "ObjectNotFound"}
    names = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.ShoalException)
    }
    assert names - bases <= known


def test_every_parameter_is_in_the_table() -> None:
    known = words("docs/python.md")
    positional = {"function", "args", "host"}
    for function in (shoal.run_function, shoal.run_command, shoal.run_map, shoal.Resources):
        assert set(inspect.signature(function).parameters) - positional <= known | {
            "flags",
            "ephemeral_storage_gb",
        }
    assert set(inspect.signature(shoal.Kubernetes).parameters) <= known


def test_the_conditions_are_explained() -> None:
    types = [*re.findall(r'made\.append\(\("(\w+)"', _status()), "Complete", "Failed"]
    assert {*types, "ParallelismCapped"} <= words("docs/kubectl.md")


def test_short_names_are_those_of_the_definitions() -> None:
    short = {name for kind in resources.KINDS.values() for name in kind.short_names}
    assert short <= words("docs/kubectl.md")


def test_every_target_of_the_makefile_is_in_contributing() -> None:
    targets = set(re.findall(r"^([\w-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    said = set(re.findall(r"[\w-]+", (ROOT / "CONTRIBUTING.md").read_text()))
    assert targets - {"help", "cluster-env", "operator-image"} <= said


def _status() -> str:
    return (ROOT / "operator" / "shoal_operator" / "status.py").read_text()
