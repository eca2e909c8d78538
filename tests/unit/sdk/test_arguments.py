"""What can't be right is told at the call, by the parameter's name, before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

import shoal
from shoal.errors import SubmissionRefused

HOST = shoal.Local("/does/not/matter")


async def a_coroutine_function() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "function"}, '"package.module.function"'),
        ({"function": "a.b c"}, '"package.module.function"'),
        ({"function": 5}, "must be a callable"),
        ({"function": a_coroutine_function}, "async function"),
        ({"host": "local"}, r"shoal\.Kubernetes\(\) or shoal\.Local\(\)"),
        ({"resources": {"cpu": 1}}, r"shoal\.Resources"),
        ({"deployment": "python"}, r"shoal\.Deployment"),
        ({"args": 5}, "args must be a list"),
        ({"args": "text"}, "args must be a list"),
        ({"kwargs": [1]}, "kwargs must be a dict"),
        ({"name": 5}, "name must be a string"),
    ],
)
async def test_functions(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await shoal.run_function(**{"function": len, "host": HOST, **arguments})


@pytest.mark.parametrize("args", ["", [], ["a", 5], "unclosed 'quote"])
async def test_commands(args: Any) -> None:
    with pytest.raises(ValueError, match="args"):
        await shoal.run_command(args, HOST)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
@pytest.mark.parametrize("parameter", ["num_concurrent_tasks", "max_num_task_attempts"])
async def test_maps_count_in_whole_numbers_from_one_on(parameter: str, value: Any) -> None:
    with pytest.raises(ValueError, match=parameter):
        await shoal.run_map(len, [[]], HOST, **{parameter: value})
    with pytest.raises(ValueError, match=parameter):
        shoal.run_map_as_completed(len, [[]], HOST, **{parameter: value})


@pytest.mark.parametrize("items", [5, "text", b"bytes", None])
async def test_maps_want_a_sequence(items: Any) -> None:
    with pytest.raises(ValueError, match="sequence of items"):
        await shoal.run_map(len, items, HOST)


@pytest.mark.parametrize(
    ("count", "wanted", "parallelism"),
    [(1, None, 1), (2, None, 2), (10, None, 6), (10, 3, 3), (3, 100, 3), (1, 1, 1)],
)
async def test_how_many_workers(count: int, wanted: int | None, parallelism: int) -> None:
    model = await shoal.run_map(
        len, [[]] * count, HOST, None, shoal.Deployment(), wanted, dry_run=True
    )
    assert model.spec.parallelism == parallelism


@pytest.mark.parametrize(
    "later",
    [
        {"sidecar_containers": shoal.ContainerInterpreter("redis")},
        {"ports": 8080},
        {"ports": "80-90"},
    ],
)
async def test_parameters_of_later_versions_are_refused_by_name(later: dict[str, Any]) -> None:
    name = next(iter(later))
    with pytest.raises(shoal.NotSupportedYet, match=name):
        await shoal.run_function(len, HOST, args=[[]], **later)
    with pytest.raises(shoal.NotSupportedYet, match=name):
        await shoal.run_command("true", HOST, **later)
    with pytest.raises(shoal.NotSupportedYet, match=name):
        await shoal.run_map(len, [[]], HOST, **later)


async def test_more_memory_needs_the_memory_of_the_first_attempt() -> None:
    with pytest.raises(ValueError, match=r"Resources\(memory_gb=...\)"):
        await shoal.run_map(len, [[]], HOST, retry_with_more_memory=True, max_num_task_attempts=2)
    with pytest.raises(ValueError, match=r"Resources\(memory_gb=...\)"):
        await shoal.run_function(len, HOST, shoal.Resources(1), retry_with_more_memory=True)


async def test_more_memory_for_one_attempt_is_warned_of_where_it_is_asked_for() -> None:
    with pytest.warns(UserWarning, match="max_num_task_attempts is 1") as warned:
        await shoal.run_map(
            len, [], HOST, shoal.Resources(memory_gb=1), retry_with_more_memory=True
        )
    assert warned[0].filename == __file__


@pytest.mark.parametrize("seconds", [0, -1, 1.5, True, "5"])
async def test_a_task_timeout_is_a_whole_number_of_seconds(seconds: object) -> None:
    with pytest.raises(ValueError, match="task_timeout_seconds must be a whole number"):
        await shoal.run_map(len, [[]], HOST, task_timeout_seconds=seconds)  # type: ignore[arg-type]


async def test_what_is_said_of_attempts_stands_in_the_resource() -> None:
    tries: dict[str, object] = {
        "max_num_task_attempts": 3,
        "retry_with_more_memory": True,
        "task_timeout_seconds": 7,
    }
    size = shoal.Resources(memory_gb=1)
    here = shoal.Deployment()
    made = {
        "function": await shoal.run_function(
            len,
            HOST,
            size,
            here,
            [[]],
            dry_run=True,
            **tries,  # type: ignore[arg-type]
        ),
        "command": await shoal.run_command("true", HOST, size, here, dry_run=True, **tries),  # type: ignore[arg-type]
        "map": await shoal.run_map(
            len,
            [[]],
            HOST,
            size,
            here,
            speculation=True,
            dry_run=True,
            **tries,  # type: ignore[arg-type]
        ),
    }
    for kind, resource in made.items():
        spec = resource.to_dict()["spec"]
        assert (spec["maxAttempts"], spec["retryWithMoreMemory"], spec["taskTimeoutSeconds"]) == (
            3,
            True,
            7,
        ), kind
        assert spec.get("speculation", False) == (kind == "map")


async def test_an_awaitable_that_is_no_deployment() -> None:
    async def wrong() -> int:
        return 5

    with pytest.raises(ValueError, match="awaited to 5"):
        await shoal.run_function(len, HOST, None, wrong(), args=[[]])  # type: ignore[arg-type]


async def test_nothing_is_submitted_while_a_worker_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_IMPORTING", "1")
    with pytest.raises(SubmissionRefused, match="__main__"):
        await shoal.run_function(len, HOST, args=[[]])


async def test_an_empty_map_cannot_be_followed() -> None:
    with pytest.raises(ValueError, match="no items"):
        await shoal.submit_map(len, [], HOST)


@pytest.mark.parametrize(
    ("deployment", "named"),
    [
        (
            shoal.Deployment(environment_variables={"A": "1", "B": shoal.SecretKeyRef("s", "k")}),
            r"environment_variables\['B'\]",
        ),
        (shoal.Deployment(env_from=[shoal.ConfigMapRef("c")]), "env_from"),
    ],
)
async def test_local_has_no_secrets(deployment: shoal.Deployment, named: str) -> None:
    with pytest.raises(ValueError, match=rf"no Secrets and ConfigMaps, which {named} name"):
        await shoal.run_function(len, shoal.Local(), deployment=deployment, args=[[]])


async def test_variables_name_their_secrets_in_the_manifest() -> None:
    deployment = shoal.Deployment.container_image(
        "python",
        environment_variables={
            "TOKEN": shoal.SecretKeyRef("login", "token"),
            "MODE": shoal.ConfigMapKeyRef("modes", "mode", optional=True),
            "PLAIN": "1",
        },
        env_from=[
            shoal.SecretRef("login", prefix="LOGIN_"),
            shoal.ConfigMapRef("modes", optional=True),
        ],
    )
    model = await shoal.run_command("true", shoal.Local(), deployment=deployment, dry_run=True)
    where = model.to_dict()["spec"]["deployment"]
    assert where["environmentVariables"] == [
        {
            "name": "MODE",
            "valueFrom": {"configMapKeyRef": {"name": "modes", "key": "mode", "optional": True}},
        },
        {"name": "PLAIN", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}},
    ]
    assert where["envFrom"] == [
        {"prefix": "LOGIN_", "secretRef": {"name": "login"}},
        {"configMapRef": {"name": "modes", "optional": True}},
    ]


def test_a_reference_must_name_something() -> None:
    with pytest.raises(ValueError, match=r"SecretKeyRef\.key must be a name"):
        shoal.SecretKeyRef("login", "")
    with pytest.raises(ValueError, match=r"env_from must hold shoal\.SecretRef"):
        shoal.Deployment(env_from=[shoal.KubernetesSecret("login")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="env_from must be a list"):
        shoal.Deployment(env_from=shoal.SecretRef("login"))  # type: ignore[arg-type]


async def test_local_runs_no_images() -> None:
    with pytest.raises(ValueError, match=r"Local\(\) runs no containers"):
        await shoal.run_command("true", HOST, None, shoal.Deployment.container_image("python"))
