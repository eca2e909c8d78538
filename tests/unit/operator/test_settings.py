"""Settings come from SHOAL_OP_* and name the variable that can't be used."""

from __future__ import annotations

import pytest

from shoal_operator.settings import Settings, SettingsError

NEEDED = {
    "SHOAL_OP_NAMESPACE": "shoal-system",
    "SHOAL_OP_INSTANCE": "shoal",
    "SHOAL_OP_CLUSTER_ID": "c1",
}


def test_the_least_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_env(NEEDED)
    assert settings.port == 8443
    assert settings.max_parallelism == 64
    assert settings.watch_namespaces == ()
    assert settings.server_name == "shoal.shoal-system.svc"
    assert settings.audience == "shoal:c1"


def test_lists_and_mappings_are_read() -> None:
    settings = Settings.from_env(
        NEEDED
        | {
            "SHOAL_OP_WATCH_NAMESPACES": "a, b,",
            "SHOAL_OP_PYTHON_IMAGES": '{"3.12": "x/python:3.12"}',
            "SHOAL_OP_CONTACT_SECONDS": "2.5",
        }
    )
    assert settings.watch_namespaces == ("a", "b")
    assert settings.watches("b")
    assert not settings.watches("c")
    assert settings.python_images == {"3.12": "x/python:3.12"}
    assert settings.contact_seconds == 2.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAMESPACE", ""),
        ("INSTANCE", "Not A Name"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("MAX_PARALLELISM", "0"),
        ("CONTACT_SECONDS", "soon"),
        ("IMAGE_PULL_SECONDS", "-1"),
        ("START_DEADLINE_SECONDS", "0"),
        ("WORKER_MEMORY", "plenty"),
        ("CREATE_BUCKET", "perhaps"),
        ("PYTHON_IMAGES", "3.11"),
        ("PYTHON_IMAGES", '["3.11"]'),
        ("DEFAULT_ENDPOINT", "minio:9000"),
        ("SECRET_STORE", "aws"),
        ("SECRET_STORE", "Vault/aws"),
    ],
)
def test_what_can_not_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"SHOAL_OP_{name}"):
        Settings.from_env(NEEDED | {f"SHOAL_OP_{name}": value})


def test_a_bucket_without_a_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="SHOAL_OP_BUCKET_SECRET"):
        Settings.from_env(NEEDED | {"SHOAL_OP_DEFAULT_BUCKET": "b"})
