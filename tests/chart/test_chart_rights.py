"""What the chart lets the operator and users do: no more than each needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rendering import CHART, Release

Render = Callable[..., Release]
VARIANTS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())


def rules(release: Release) -> Iterator[tuple[str, dict[str, Any]]]:
    for role in release.of("Role", "ClusterRole"):
        for rule in role["rules"]:
            yield role["metadata"]["name"], rule


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_rule_has_a_wildcard(variant: str, render: Render) -> None:
    for name, rule in rules(render(variant)):
        for part in ("apiGroups", "resources", "verbs"):
            assert rule[part] and not any("*" in word for word in rule[part]), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_secrets_are_read_by_name_only(variant: str, render: Render) -> None:
    for name, rule in rules(render(variant)):
        if "secrets" in rule["resources"]:
            assert rule.get("resourceNames") or rule["verbs"] == ["create"], name
            assert not {"list", "watch"} & set(rule["verbs"]), name


def test_rules_on_config_maps_and_leases_name_theirs(render: Render) -> None:
    for name, rule in rules(render("dev")):
        if {"configmaps", "leases", "services"} & set(rule["resources"]):
            assert rule.get("resourceNames") or rule["verbs"] == ["create"], name


def test_with_watched_namespaces_nothing_is_cluster_wide(render: Render) -> None:
    release = render("namespaced")
    assert not [o for o in release if o["kind"].startswith("Cluster")]
    for namespace in ("team-a", "team-b"):
        role = release.one("Role", "shoal-system-shoal", namespace)
        binding = release.one("RoleBinding", "shoal-system-shoal", namespace)
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        [subject] = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == ("shoal", "shoal-system")
    assert release.environment()["SHOAL_OP_WATCH_NAMESPACES"] == "team-a,team-b"


def test_without_watched_namespaces_there_is_one_cluster_role(render: Render) -> None:
    release = render("dev")
    role = release.one("ClusterRole", "shoal-system-shoal")
    [of_namespaces] = [r for r in role["rules"] if r["resources"] == ["namespaces"]]
    assert of_namespaces["verbs"] == ["get", "list", "watch"]
    assert release.one("ClusterRoleBinding", "shoal-system-shoal")["roleRef"]["name"]


def test_both_ways_give_the_same_rights_in_a_served_namespace(render: Render) -> None:
    everywhere = render("dev").one("ClusterRole", "shoal-system-shoal")["rules"]
    here = render("dev", "watchNamespaces={team}").one("Role", "shoal-system-shoal", "team")
    assert [r for r in everywhere if r["resources"] != ["namespaces"]] == here["rules"]


def test_secrets_for_jobs_own_buckets_are_those_that_the_values_name(render: Render) -> None:
    role = render("namespaced").one("Role", "shoal-system-shoal", "team-a")
    [rule] = [r for r in role["rules"] if "secrets" in r["resources"]]
    assert (rule["resourceNames"], rule["verbs"]) == (["my-bucket"], ["get"])
    bare = render(None).one("ClusterRole", "shoal-system-shoal")
    assert not [r for r in bare["rules"] if "secrets" in r["resources"]]


def test_users_roles_never_hold_a_status(render: Render) -> None:
    release = render("dev")
    edit = release.one("ClusterRole", "shoal-system-shoal-edit")
    view = release.one("ClusterRole", "shoal-system-shoal-view")
    for role in (edit, view):
        for rule in role["rules"]:
            assert rule["apiGroups"] == ["shoal.dev"]
            assert not [r for r in rule["resources"] if r.endswith(("/status", "/finalizers"))]
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"
    assert view["metadata"]["labels"][f"{aggregate}view"] == "true"
    assert f"{aggregate}view" not in edit["metadata"]["labels"]
    assert edit["metadata"]["labels"][f"{aggregate}edit"] == "true"
    assert {v for rule in view["rules"] for v in rule["verbs"]} == {"get", "list", "watch"}


def test_no_roles_when_somebody_else_makes_them(render: Render) -> None:
    release = render("bare")
    named = [o["metadata"]["name"] for o in release.of("Role", "ClusterRole", "RoleBinding")]
    assert named == ["shoal-system-shoal-test"] * 2  # those of helm test
    operator = release.one("Deployment", "shoal")["spec"]["template"]["spec"]
    assert operator["serviceAccountName"] == "mine"
