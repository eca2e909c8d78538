"""What README and docs show works as it is shown."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import package_index
import pytest
import snippets
import yaml
from shells import Shell
from snippets import PAGES, ROOT, Snippet

from shoal.resources import API_VERSION, resource_from_dict

LANGUAGES = ("python", "sh", "yaml")
SHELL_PAGES = sorted({snippet.page for snippet in snippets.every("sh", how="")})
NOT_HERE = re.compile(r"^make (demo|test)\b.*$|^eval .*$|^\. \.venv.*$", re.M)
"""Lines that would run this very test, or have been run to get here."""


def named(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(
    "page", sorted({snippet.page for snippet in snippets.every("python")}), ids=named
)
def test_the_python_of_a_page_runs(page: Path, shell: Shell) -> None:
    if page.name == "kubectl.md":  # it attaches to what the page's shell has applied
        shell.run("kubectl", "apply", "-f", "examples/map.yaml")
    if page.name == "python.md":  # Pods may have no way out to an index
        shell = _with_index(shell)
    shell.run(sys.executable, ROOT / "tests" / "docs" / "notebook.py", page)


def _with_index(shell: Shell) -> Shell:
    """Serve what examples/requirements.txt names in the shell's namespace."""
    wheels = dict([package_index.wheel("six", "1.17.0", {"six.py": "__version__ = '1.17.0'\n"})])
    image = f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    for body in package_index.manifests(wheels, image):
        shell.run("kubectl", "create", "-f", "-", stdin=json.dumps(body))
    shell.run("kubectl", "wait", "--for=condition=Ready", "pod/index", "--timeout=60s")
    named = {"SHOAL_PACKAGE_INDEX": package_index.url(shell.namespace)}
    return replace(shell, variables={**shell.variables, **named})


@pytest.mark.parametrize("page", SHELL_PAGES, ids=named)
def test_the_shell_of_a_page_runs(page: Path, shell: Shell) -> None:
    lines = [s.text for s in snippets.of(page) if s.language == "sh" and not s.how]
    script = NOT_HERE.sub("", "".join(lines))
    shell.run("bash", "-euo", "pipefail", "-c", script)


@pytest.mark.parametrize("snippet", snippets.every("sh", how="read"), ids=str)
def test_what_can_only_be_read_can_be_read(snippet: Snippet, shell: Shell) -> None:
    shell.run("bash", "-n", stdin=snippet.text)
    for path in re.findall(r"(?:examples|charts|operator|tests)/[\w./-]+", snippet.text):
        assert (ROOT / path).exists(), path
    targets = re.findall(r"^make ([\w-]+)", snippet.text, re.M)
    assert set(targets) <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    joined = snippet.text.replace("\\\n", " ")
    for words in re.findall(r"^helm install (.*)$", joined, re.M):
        shell.run("bash", "-c", f"helm template --set clusterId=test {words}")


@pytest.mark.parametrize("snippet", snippets.every("yaml", how=""), ids=str)
def test_manifests_are_what_models_and_cluster_accept(snippet: Snippet, shell: Shell) -> None:
    for body in yaml.safe_load_all(snippet.text):
        assert body["apiVersion"] == API_VERSION
        resource_from_dict(body)
    shell.run("kubectl", "apply", "--dry-run=server", "-f", "-", stdin=snippet.text)


@pytest.mark.parametrize("snippet", snippets.every("yaml", how="values"), ids=str)
def test_values_are_what_the_chart_accepts(snippet: Snippet, shell: Shell) -> None:
    words = ("--set=clusterId=test", "--values", "-")
    shell.run("helm", "template", "shoal", "charts/shoal", *words, stdin=snippet.text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_snippet_has_a_test(page: Path) -> None:
    for snippet in snippets.of(page):
        assert snippet.language in ("", *LANGUAGES), snippet
        assert snippet.how in ("", "read", "values"), snippet


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
