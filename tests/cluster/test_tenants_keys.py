"""A namespace is a tenant: what names another one's keys gets nothing signed."""

from __future__ import annotations

from conftest import Space, until

import shoal

PLAIN = shoal.Deployment()


async def test_a_resource_that_names_anothers_inputs_gets_nothing(
    space: Space, other_space: Space
) -> None:
    theirs = await shoal.submit_function(lambda: "a secret of theirs", space.host(), None, PLAIN)
    assert await theirs.result() == "a secret of theirs"
    spec = space_spec(space, theirs.name)
    copied = {key: spec[key] for key in ("id", "function")}
    other_space.apply("Job", "copied", copied)
    what = "jobs.shoal.dev/copied"
    end = await until("an end", 60, lambda: other_space.condition(what, "Finished").get("status"))
    assert end == "True"
    failed = other_space.condition(what, "Failed")
    assert failed["reason"] == "InputsNotFound", failed
    assert "a secret of theirs" not in str(other_space.status(what))


async def test_a_prefix_leads_nowhere_else(space: Space, other_space: Space) -> None:
    theirs = await shoal.submit_function(lambda: "another secret", space.host(), None, PLAIN)
    assert await theirs.result() == "another secret"
    spec = space_spec(space, theirs.name)
    status = space.status(f"jobs.shoal.dev/{theirs.name}")
    storage = {
        "bucket": status["storage"]["bucket"],
        "endpoint": status["storage"]["endpoint"],
        "endpointInCluster": status["storage"]["endpointInCluster"],
        "prefix": f"x/{space.name}",
        "secretName": "shoal-minio",
    }
    other_space.apply(
        "Job", "aside", {**{k: spec[k] for k in ("id", "function")}, "storage": storage}
    )
    what = "jobs.shoal.dev/aside"
    await until("an end", 60, lambda: other_space.condition(what, "Finished").get("status"))
    assert other_space.condition(what, "Failed")["reason"] == "InputsNotFound"


async def test_a_result_reaches_only_its_own_namespace(space: Space, other_space: Space) -> None:
    handle = await shoal.submit_function(lambda: 1, space.host(), None, PLAIN, name="same-name")
    assert await handle.result() == 1
    assert other_space.objects("jobs.shoal.dev", "--field-selector=metadata.name=same-name") == []


def space_spec(space: Space, name: str) -> dict[str, object]:
    found = space.objects("jobs.shoal.dev", f"--field-selector=metadata.name={name}")
    spec: dict[str, object] = found[0]["spec"]
    return spec
