"""What a Pod's state means for the jobs that wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shoal.errors import ApiError
from shoal_operator.poolkeeping import ACCOUNT_PATIENCE, refusal, since_before
from shoal_operator.reasons import Reason
from shoal_operator.settings import Settings
from shoal_operator.trouble import History, pool_trouble

Make = Callable[..., Any]


def test_no_pods_no_trouble(settings: Settings) -> None:
    assert pool_trouble([], set(), History(), settings, image="i") is None


def test_an_image_that_can_not_be_pulled_names_image_and_registry(
    settings: Settings, pod: Make
) -> None:
    stuck = pod(waiting_reason="ErrImagePull", waiting_message="registry says: no such tag")
    trouble = pool_trouble([stuck], set(), History(), settings, image="example/x:1")
    assert trouble is not None
    assert trouble.reason is Reason.IMAGE_PULL_FAILED
    assert "example/x:1" in trouble.message
    assert "no such tag" in trouble.message
    assert trouble.fatal_at == stuck.created + settings.image_pull_seconds


def test_a_bad_image_name_is_fatal_at_once(settings: Settings, pod: Make) -> None:
    stuck = pod(waiting_reason="InvalidImageName")
    trouble = pool_trouble([stuck], set(), History(), settings, image="NOT AN IMAGE")
    assert trouble is not None
    assert trouble.fatal_at == 0.0


def test_a_secret_that_is_missing_is_waited_for_and_named(settings: Settings, pod: Make) -> None:
    stuck = pod(
        waiting_reason="CreateContainerConfigError", waiting_message='secret "login" not found'
    )
    trouble = pool_trouble([stuck], set(), History(), settings, image="i")
    assert trouble is not None
    assert trouble.reason is Reason.CREATE_CONTAINER_CONFIG_ERROR
    assert 'secret "login" not found' in trouble.message
    assert "namespace default" in trouble.message
    assert trouble.fatal_at == stuck.created + settings.missing_seconds


def test_an_unschedulable_pod_can_heal(settings: Settings, pod: Make) -> None:
    trouble = pool_trouble([pod(unschedulable="no cpu")], set(), History(), settings, image="i")
    assert trouble is not None
    assert (trouble.reason, trouble.message, trouble.fatal_at) == (
        Reason.UNSCHEDULABLE,
        "no cpu",
        None,
    )


def test_one_pod_on_its_way_gives_hope(settings: Settings, pod: Make) -> None:
    pods = [pod("a", waiting_reason="ErrImagePull"), pod("b")]
    trouble = pool_trouble(pods, set(), History(), settings, image="i")
    assert trouble is not None
    assert trouble.fatal_at is None


def test_one_connected_worker_gives_hope(settings: Settings, pod: Make) -> None:
    pods = [pod("a", waiting_reason="ErrImagePull"), pod("b", started=1.0)]
    trouble = pool_trouble(pods, {"b"}, History(), settings, image="i")
    assert trouble is not None
    assert trouble.fatal_at is None


def test_pods_that_die_before_contact_are_no_accident(settings: Settings) -> None:
    history = History(early_ends=3, last_end="Pod x exited with 1")
    trouble = pool_trouble([], set(), history, settings, image="i")
    assert trouble is not None
    assert trouble.reason is Reason.WORKER_NO_CONTACT
    assert "Pod x exited with 1" in trouble.message


@pytest.mark.parametrize(
    ("status", "text", "reason", "fatal"),
    [
        (403, "pods x is forbidden: exceeded quota: q", Reason.QUOTA_EXCEEDED, False),
        (403, "violates PodSecurity restricted", Reason.POD_REJECTED, True),
        (422, "spec.containers[0].image: Required", Reason.POD_REJECTED, True),
    ],
)
def test_refused_pods(status: int, text: str, reason: Reason, fatal: bool) -> None:
    trouble = refusal(ApiError(status, "Forbidden", text), 5.0)
    assert trouble is not None
    assert trouble.reason is reason
    assert trouble.fatal_at == (5.0 if fatal else None)


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
def test_what_may_work_next_time_is_no_refusal(status: int) -> None:
    assert refusal(ApiError(status, "x", "x"), 5.0) is None


def test_a_service_account_that_is_missing_is_waited_for_once() -> None:
    error = ApiError(403, "Forbidden", 'serviceaccount "default" not found')
    first = refusal(error, 5.0)
    assert first is not None
    assert first.fatal_at == 5.0 + ACCOUNT_PATIENCE
    later = refusal(error, 9.0)
    assert later is not None
    kept, pause = since_before(later, first, 9.0)
    assert (kept.fatal_at, pause) == (5.0 + ACCOUNT_PATIENCE, 1.0)
    over, pause = since_before(later, first, 5.0 + ACCOUNT_PATIENCE)
    assert over.fatal_at == 5.0 + ACCOUNT_PATIENCE
    assert pause > 1.0
