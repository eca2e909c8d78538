"""Which cluster is used, and what is said about it."""

from __future__ import annotations

import pytest
from cluster.choice import choose
from cluster.errors import ClusterError, MissingTool


def test_a_named_cluster_comes_before_all_others() -> None:
    environment = {"SHOAL_KUBECONFIG": "/a/config", "SHOAL_CLUSTER": "kind"}
    choice = choose(environment, docker=True, kind=True)
    assert str(choice) == "cluster: named (SHOAL_KUBECONFIG=/a/config)"


def test_kind_is_used_where_docker_answers_and_kind_is_there() -> None:
    assert choose({}, docker=True, kind=True).name == "kind"


@pytest.mark.parametrize(
    ("docker", "kind", "why"),
    [
        (False, True, "no Docker engine answers"),
        (True, False, "kind is not installed"),
        (False, False, "no Docker engine answers"),
    ],
)
def test_else_the_embedded_one_with_the_reason(docker: bool, kind: bool, why: str) -> None:
    choice = choose({}, docker=docker, kind=kind)
    assert choice.name == "embedded"
    assert why in choice.why


def test_embedded_can_be_forced() -> None:
    assert choose({"SHOAL_CLUSTER": "embedded"}, docker=True, kind=True).name == "embedded"


def test_kind_that_is_asked_for_and_not_there_is_an_error() -> None:
    with pytest.raises(MissingTool, match="no Docker engine answers"):
        choose({"SHOAL_CLUSTER": "kind"}, docker=False, kind=True)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ClusterError, match="neither `kind` nor `embedded`"):
        choose({"SHOAL_CLUSTER": "minikube"}, docker=True, kind=True)
