"""Jobs and maps that are nothing but manifests: what a kubectl user gets."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest
from namespaces import Place, bucket, condition

from shoal.errors import ApiError
from shoal.kube import EVENTS


async def test_a_functions_small_result_stands_in_the_status(place: Place) -> None:
    spec = {"function": {"name": "math.gcd", "args": [12, 18]}}
    status = await place.run("Job", "gcd", spec)
    assert (status["phase"], status["progress"], status["result"]) == ("Complete", "1/1", 6)
    assert condition(status, "Complete")["status"] == "True"


async def test_keyword_arguments_arrive(place: Place) -> None:
    function = {"name": "json.dumps", "args": [{"b": 1}], "kwargs": {"indent": None}}
    assert (await place.run("Job", "kwargs", {"function": function}))["result"] == '{"b": 1}'


async def test_a_functions_exception_is_told(place: Place) -> None:
    status = await place.run("Job", "bad", {"function": {"name": "math.sqrt", "args": [-1]}})
    assert status["phase"] == "Failed"
    assert status["error"]["type"] == "ValueError"
    assert condition(status, "Failed")["reason"] == "TaskFailed"


async def test_a_commands_exit_code_stands_in_the_status(place: Place) -> None:
    status = await place.run("Job", "three", {"command": ["sh", "-c", "exit 3"]})
    assert (status["phase"], status["exitCode"]) == ("Failed", 3)
    assert condition(status, "Failed")["reason"] == "CommandFailed"
    status = await place.run("Job", "zero", {"command": ["true"]})
    assert (status["phase"], status["exitCode"]) == ("Complete", 0)


async def test_a_map_leaves_its_results_as_json_lines(place: Place) -> None:
    items = list(range(20))
    spec: dict[str, Any] = {
        "function": {"name": "math.factorial"},
        "items": {"inline": items},
        "parallelism": 2,
    }
    status = await place.run("MapJob", "factorials", spec)
    assert (status["phase"], status["progress"]) == ("Complete", "20/20")
    storage = await bucket(place.api)
    text = await asyncio.to_thread(storage.get, status["resultsFile"])
    lines = [json.loads(line) for line in text.decode().splitlines()]
    assert [line["result"] for line in lines[:5]] == [1, 1, 2, 6, 24]
    assert len(lines) == 20


async def test_failed_items_do_not_stop_a_map(place: Place) -> None:
    spec = {"function": {"name": "math.sqrt"}, "items": {"inline": [4, -1, 9]}, "parallelism": 1}
    status = await place.run("MapJob", "roots", spec)
    assert (status["phase"], status["succeeded"], status["failed"]) == ("Failed", 2, 1)


async def test_the_same_manifest_twice_runs_once(place: Place) -> None:
    spec = {"function": {"name": "time.time_ns"}}
    first = await place.run("Job", "once", spec)
    with pytest.raises(ApiError, match="already exists"):
        await place.apply("Job", "once", spec)
    again = await place.get("Job", "once")
    assert again["status"]["result"] == first["result"]


async def test_columns_and_events_read_well(place: Place) -> None:
    await place.run("Job", "bad", {"function": {"name": "math.sqrt", "args": [-1]}})
    words = ["kubectl", "get", "jobs.shoal.dev,mapjobs.shoal.dev", "-n", place.namespace]
    done = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, check=True
    )
    table = done.stdout
    header, row = table.splitlines()
    assert header.split() == ["NAME", "STATUS", "PROGRESS", "DURATION", "AGE"]
    assert row.split()[1:3] == ["Failed", "1/1"]
    async with asyncio.timeout(10):
        reasons: list[str] = []
        while "TaskFailed" not in reasons:
            found = await place.api.list(
                EVENTS, place.namespace, field_selector="involvedObject.name=bad"
            )
            reasons = [event["reason"] for event in found["items"]]


async def test_kubectl_wait_sees_both_ends(place: Place) -> None:
    await place.apply("Job", "good", {"function": {"name": "math.sqrt", "args": [4]}})
    await place.apply("Job", "bad", {"function": {"name": "math.sqrt", "args": [-4]}})
    for name, type_ in (("good", "Complete"), ("good", "Finished"), ("bad", "Finished")):
        words = ["kubectl", "wait", f"--for=condition={type_}", f"jobs.shoal.dev/{name}"]
        await asyncio.to_thread(
            subprocess.run, [*words, "-n", place.namespace, "--timeout=60s"], check=True
        )


async def test_two_resources_can_not_share_an_id(place: Place) -> None:
    spec = {"id": "a" * 24, "function": {"name": "math.sqrt", "args": [4]}}
    first = await place.run("Job", "first", spec)
    assert first["phase"] == "Complete"
    second = await place.run("Job", "second", spec)
    assert condition(second, "Failed")["reason"] == "IdInUse"
