"""The verbs of `shoal.kube` against a real API server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from namespaces import Place

from shoal.errors import ApiError
from shoal.kube import CONFIGMAPS, JOBS, PODS, Client, shared


def configmap(name: str, **data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"a": name}},
        "data": data,
    }


async def test_create_get_change_and_delete(place: Place) -> None:
    api, where = place.api, place.namespace
    made = await api.create(CONFIGMAPS, configmap("x", a="1"), where)
    assert (await api.get(CONFIGMAPS, "x", where))["metadata"]["uid"] == made["metadata"]["uid"]
    merged = await api.patch(CONFIGMAPS, "x", {"data": {"b": "2"}}, where)
    assert merged["data"] == {"a": "1", "b": "2"}
    by_json = [{"op": "remove", "path": "/data/a"}]
    assert (await api.patch(CONFIGMAPS, "x", by_json, where, style="json"))["data"] == {"b": "2"}
    applied = await api.patch(CONFIGMAPS, "x", configmap("x", b="3"), where, style="apply")
    assert applied["data"] == {"b": "3"}
    replaced = await api.replace(CONFIGMAPS, "x", applied | {"data": {"c": "4"}}, where)
    assert replaced["data"] == {"c": "4"}
    with pytest.raises(ApiError) as caught:
        await api.replace(CONFIGMAPS, "x", applied, where)
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    with pytest.raises(ApiError) as caught:
        await api.delete(CONFIGMAPS, "x", where, uid="another")
    assert caught.value.status == 409
    assert await api.delete(CONFIGMAPS, "x", where, uid=made["metadata"]["uid"])
    assert await api.delete(CONFIGMAPS, "x", where) is None


async def test_a_dry_run_leaves_nothing(place: Place) -> None:
    await place.api.create(CONFIGMAPS, configmap("dry"), place.namespace, dry_run=True)
    with pytest.raises(ApiError, match="not found"):
        await place.api.get(CONFIGMAPS, "dry", place.namespace)


async def test_unknown_fields_are_refused(place: Place) -> None:
    with pytest.raises(ApiError, match='unknown field "dta"') as caught:
        await place.api.create(CONFIGMAPS, configmap("x") | {"dta": {}}, place.namespace)
    assert caught.value.status == 400


async def test_a_refusal_by_the_schema_names_the_field(place: Place) -> None:
    body = {
        "apiVersion": "shoal.dev/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "x"},
        "spec": {"command": []},
    }
    with pytest.raises(ApiError, match=r"spec\.command") as caught:
        await place.api.create(JOBS, body, place.namespace)
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")


async def test_lists_select_by_labels_and_names(place: Place) -> None:
    for name in "abc":
        await place.api.create(CONFIGMAPS, configmap(name), place.namespace)
    by_label = await place.api.list(CONFIGMAPS, place.namespace, label_selector="a in (a, c)")
    assert {item["metadata"]["name"] for item in by_label["items"]} == {"a", "c"}
    by_name = await place.api.list(CONFIGMAPS, place.namespace, field_selector="metadata.name=b")
    assert [item["metadata"]["name"] for item in by_name["items"]] == ["b"]
    assert by_name["metadata"]["resourceVersion"]


async def test_a_watch_sees_one_objects_life(place: Place) -> None:
    api, where = place.api, place.namespace
    async with aclosing(api.watch(CONFIGMAPS, where, name="x")) as events:
        assert (await anext(events)).type == "LISTED"
        await api.create(CONFIGMAPS, configmap("other"), where)
        await api.create(CONFIGMAPS, configmap("x"), where)
        await api.patch(CONFIGMAPS, "x", {"data": {"a": "1"}}, where)
        await api.delete(CONFIGMAPS, "x", where)
        seen = [await anext(events) for _ in range(3)]
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert seen[1].object["data"] == {"a": "1"}


async def test_many_watches_leave_room_for_requests(place: Place) -> None:
    watches = [place.api.watch(CONFIGMAPS, place.namespace, name=f"x{n}") for n in range(120)]
    for watch in watches:
        assert (await anext(watch)).type == "LISTED"
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    async with asyncio.timeout(20):
        await asyncio.sleep(0)
        for n in range(120):
            await place.api.create(CONFIGMAPS, configmap(f"x{n}"), place.namespace)
        assert {event.type for event in await asyncio.gather(*waiting)} == {"ADDED"}
    for watch in watches:
        await watch.aclose()


async def test_a_loop_has_one_connection_for_each_context(api: Client) -> None:
    first = await shared()
    assert await shared() is first
    assert (await first.list(PODS, "default"))["kind"] == "PodList"
