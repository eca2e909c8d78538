"""The plans, case by case: from what is observed to what is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shoal_operator.crews import Crew
from shoal_operator.plan import (
    AttachJob,
    CreatePods,
    DeletePod,
    EnsureDeployment,
    FinishJob,
    GiveUp,
    JobState,
    PoolState,
    Retire,
    SetParallelism,
    SetSuspended,
    plan_job,
    plan_pool,
)
from shoal_operator.pools import Pool, Template
from shoal_operator.reasons import Reason
from shoal_operator.resolve import Problem, resolve
from shoal_operator.settings import Settings
from shoal_operator.trouble import History, Trouble

Make = Callable[..., Any]

NOW = 2000.0


def pool_state(**fields: Any) -> PoolState:
    limits = {key: fields.pop(key) for key in ("min_workers", "max_workers") if key in fields}
    pool = Pool(
        namespace="default",
        template=Template(image="python"),
        owner_kind="Deployment",
        owner_name="d",
        owner_uid="owner",
        **({"max_workers": 8} | limits),
    )
    known: dict[str, Any] = {
        "pool": pool,
        "pods": (),
        "connected": frozenset(),
        "wanted": 0,
        "widest": fields.get("wanted", 0),
        "history": History(),
        "now": NOW,
        "up_since": 1000.0,
    }
    return PoolState(**(known | fields))


@pytest.mark.parametrize(
    ("wanted", "least", "most", "expected"),
    [(0, 0, 8, 0), (3, 0, 8, 3), (3, 0, 2, 2), (0, 2, 8, 2), (1, 2, 8, 2), (9, 2, 4, 4)],
)
def test_as_many_pods_as_jobs_can_use_within_the_limits(
    settings: Settings, wanted: int, least: int, most: int, expected: int
) -> None:
    plan = plan_pool(pool_state(wanted=wanted, min_workers=least, max_workers=most), settings)
    assert plan.actions == ((CreatePods(expected),) if expected else ())


def test_pods_that_are_there_count_even_before_they_start(settings: Settings, pod: Make) -> None:
    state = pool_state(wanted=3, pods=[pod("a"), pod("b", started=1990.0)])
    assert plan_pool(state, settings).actions == (CreatePods(1),)


@pytest.mark.parametrize(
    ("coming", "connected", "created"),
    [(0, 0, 16), (10, 0, 6), (16, 0, 0), (0, 20, 20), (5, 20, 15)],
)
def test_wide_pools_grow_as_their_workers_arrive(
    settings: Settings, pod: Make, coming: int, connected: int, created: int
) -> None:
    there = [pod(f"c{n}", started=NOW - 1) for n in range(connected)]
    pods = [*there, *(pod(f"w{n}") for n in range(coming))]
    uids = {pod.uid for pod in there}
    state = pool_state(wanted=60, max_workers=64, pods=pods, connected=uids)
    assert plan_pool(state, settings).actions == ((CreatePods(created),) if created else ())


def test_idle_workers_are_left_to_leave_by_themselves(settings: Settings, pod: Make) -> None:
    pods = [pod("a", started=1500.0), pod("b", started=1500.0)]
    state = pool_state(wanted=0, pods=pods, connected={"a", "b"})
    assert plan_pool(state, settings).actions == ()


def test_pods_that_no_node_took_go_when_nobody_wants_them(settings: Settings, pod: Make) -> None:
    pods = [pod("old", created=100.0), pod("young", created=200.0)]
    state = pool_state(wanted=1, pods=pods)
    assert plan_pool(state, settings).actions == (DeletePod("young"),)


def test_pods_that_begin_stay_for_the_next_job(settings: Settings, pod: Make) -> None:
    begins = {"node": "node-1", "created": NOW - 1}
    pods = [
        pod("old", created=100.0),
        pod("young", **begins),
        pod("creating", waiting_reason="ContainerCreating", **begins),
        pod("imageless", waiting_reason="ErrImagePull", **begins),
        pod("stuck", node="node-1", created=NOW - 999, waiting_reason="ContainerCreating"),
    ]
    gone = {action.uid for action in plan_pool(pool_state(pods=pods), settings).actions}
    assert gone == {"old", "imageless", "stuck"}


def test_two_deployments_alike_have_workers_of_their_own() -> None:
    one, two = pool_state(max_workers=1).pool, pool_state(max_workers=8).pool
    assert replace(two, owner_name="other", hash="").key != one.key
    assert replace(two, hash="").key == one.key


def test_a_crowd_of_single_calls_starts_few_workers(settings: Settings, pod: Make) -> None:
    crowd = {"wanted": 200, "widest": 1, "max_workers": 64}
    assert plan_pool(pool_state(**crowd), settings).actions == (CreatePods(1),)
    assert plan_pool(pool_state(**crowd, pods=[pod("a")]), settings).actions == ()
    three = [pod(name, started=NOW - 1) for name in "abc"]
    state = pool_state(**crowd, pods=three, connected=set("abc"))
    assert plan_pool(state, settings).actions == (CreatePods(3),)


def test_ended_and_deleted_pods_are_replaced(settings: Settings, pod: Make) -> None:
    pods = [
        pod("done", phase="Succeeded", exit_code=0, started=1.0),
        pod("lost", deleting=True, started=1.0),
        pod("well", started=1990.0),
    ]
    state = pool_state(wanted=3, pods=pods, connected={"well"})
    assert plan_pool(state, settings).actions == (DeletePod("done"), CreatePods(2))


def test_a_silent_pod_is_replaced_after_its_time(settings: Settings, pod: Make) -> None:
    silent = pod("silent", started=NOW - settings.contact_seconds)
    plan = plan_pool(pool_state(wanted=1, pods=[silent]), settings)
    assert plan.actions == (DeletePod("silent"), CreatePods(1))


def test_a_pod_that_just_started_is_waited_for(settings: Settings, pod: Make) -> None:
    plan = plan_pool(pool_state(wanted=1, pods=[pod("new", started=NOW - 1)]), settings)
    assert plan.actions == ()
    assert plan.wake_at == NOW - 1 + settings.contact_seconds


def test_a_restarted_operator_gives_workers_time_to_report(settings: Settings, pod: Make) -> None:
    warm = pod("warm", started=1.0)
    plan = plan_pool(pool_state(wanted=1, pods=[warm], up_since=NOW - 1), settings)
    assert plan.actions == ()


def test_creates_wait_after_a_refusal(settings: Settings) -> None:
    plan = plan_pool(pool_state(wanted=1, history=History(retry_at=NOW + 5)), settings)
    assert plan.actions == ()
    assert plan.wake_at == NOW + 5


def test_more_workers_than_allowed_are_retired(settings: Settings, pod: Make) -> None:
    pods = [pod(name, started=1900.0) for name in "abc"]
    state = pool_state(wanted=3, max_workers=2, pods=pods, connected=set("abc"))
    assert plan_pool(state, settings).actions == (Retire("a"),)


# jobs


@pytest.fixture
def state(job: Make, settings: Settings) -> JobState:
    made = job({"function": {"name": "math.gcd"}, "isolation": "job"})
    return JobState(
        job=made,
        resolution=resolve(made, lambda _: None, settings),
        untouched=True,
        attached=False,
        ended=False,
        parallelism=1,
        held=False,
        problem=None,
        problem_since=0.0,
        crews=(Crew(wanted=1),),
        accepted=NOW - 10,
        now=NOW,
    )


def test_a_new_job_is_attached(state: JobState) -> None:
    assert plan_job(state).actions == (AttachJob(),)


def test_an_inline_deployment_is_made_first(state: JobState, job: Make, settings: Settings) -> None:
    made = job()
    state = replace(state, job=made, resolution=resolve(made, lambda _: None, settings))
    first, *_ = plan_job(state).actions
    assert isinstance(first, EnsureDeployment)
    assert first.name.startswith("shoal-")


def test_an_attached_job_needs_nothing(state: JobState) -> None:
    assert plan_job(replace(state, attached=True)).actions == ()


def test_parallelism_follows_the_spec(state: JobState) -> None:
    plan = plan_job(replace(state, attached=True, parallelism=5))
    assert plan.actions == (SetParallelism(1),)


def test_cancel_ends_it(state: JobState, job: Make) -> None:
    cancelled = job({"function": {"name": "f.f"}, "cancel": True})
    (action,) = plan_job(replace(state, job=cancelled, attached=True)).actions
    assert isinstance(action, FinishJob)
    assert action.reason is Reason.CANCELLED


@pytest.mark.parametrize(("age", "ends"), [(4.0, False), (5.0, True)])
def test_the_deadline_counts_from_acceptance(
    state: JobState, job: Make, age: float, ends: bool
) -> None:
    limited = job({"function": {"name": "f.f"}, "activeDeadlineSeconds": 5})
    state = replace(state, job=limited, attached=True, accepted=NOW - age)
    plan = plan_job(state)
    assert [type(action) for action in plan.actions] == ([FinishJob] if ends else [])
    assert ends or plan.wake_at == NOW + 1


@pytest.mark.parametrize(("since", "ends"), [(NOW - 29, False), (NOW - 30, True)])
def test_a_problem_is_borne_for_its_patience(state: JobState, since: float, ends: bool) -> None:
    problem = Problem(Reason.SECRET_NOT_FOUND, "no Secret", patience=30)
    plan = plan_job(replace(state, problem=problem, problem_since=since))
    if ends:
        assert plan.actions == (FinishJob(Reason.SECRET_NOT_FOUND, "no Secret"),)
    else:
        assert plan.actions == (AttachJob(),)
        assert plan.wake_at == since + 30


@pytest.mark.parametrize(("fatal_at", "ends"), [(NOW, True), (0.0, True), (NOW + 1, False)])
def test_a_trouble_that_can_not_heal_ends_a_job_without_workers(
    state: JobState, fatal_at: float, ends: bool
) -> None:
    trouble = Trouble(Reason.IMAGE_PULL_FAILED, "no image", fatal_at)
    crew = Crew(wanted=1, trouble=trouble, since=NOW - 1)
    plan = plan_job(replace(state, attached=True, crews=(crew,)))
    assert plan.actions == ((FinishJob(Reason.IMAGE_PULL_FAILED, "no image"),) if ends else ())
    assert ends or plan.wake_at == fatal_at
    at_work = plan_job(replace(state, attached=True, crews=(replace(crew, since=0.0),)))
    assert at_work.actions == ()


NO_ROOM = Trouble(Reason.UNSCHEDULABLE, "0/3 nodes are available")


@pytest.mark.parametrize(("waits", "ends"), [(599.0, False), (600.0, True)])
def test_room_is_waited_for_until_the_start_deadline(
    state: JobState, job: Make, settings: Settings, waits: float, ends: bool
) -> None:
    made = job({"function": {"name": "f.f"}, "isolation": "job", "startDeadlineSeconds": 600})
    crew = Crew(wanted=1, trouble=NO_ROOM, since=NOW - waits)
    resolution = resolve(made, lambda _: None, settings)
    plan = plan_job(replace(state, job=made, resolution=resolution, attached=True, crews=(crew,)))
    if not ends:
        assert (plan.actions, plan.wake_at) == ((), NOW + 1)
        return
    (action,) = plan.actions
    assert isinstance(action, FinishJob)
    assert action.reason is Reason.UNSCHEDULABLE
    assert "within 600 s: 0/3 nodes are available; ask for less" in action.message


def test_the_start_deadline_is_the_charts_unless_the_job_has_one(state: JobState) -> None:
    crew = Crew(wanted=1, trouble=NO_ROOM, since=NOW)
    assert plan_job(replace(state, attached=True, crews=(crew,))).wake_at == NOW + 3600


@pytest.mark.parametrize(
    ("trouble", "waits", "words"),
    [
        (NO_ROOM, 3600.0, "within 3600 s: 0/3 nodes are available"),
        (Trouble(Reason.POD_REJECTED, "above the LimitRange", NOW), 0.5, "above the LimitRange"),
    ],
)
def test_tasks_are_given_up_whose_larger_workers_can_not_be_had(
    state: JobState, trouble: Trouble, waits: float, words: str
) -> None:
    usual = Crew(wanted=2, connected=2)
    larger = Crew(size=2, memory="1Gi", wanted=1, trouble=trouble, since=NOW - waits)
    (action,) = plan_job(replace(state, attached=True, crews=(usual, larger))).actions
    assert isinstance(action, GiveUp)
    assert action.size == 2
    assert action.message.startswith("attempt 2 needs a worker with 1Gi of memory: ")
    assert words in action.message


# jobs that pause


@pytest.fixture
def paused(state: JobState, job: Make, settings: Settings) -> JobState:
    made = job({"function": {"name": "f.f"}, "isolation": "job", "suspend": True})
    return replace(state, job=made, resolution=resolve(made, lambda _: None, settings))


def test_a_job_made_suspended_is_left_alone(paused: JobState, job: Make) -> None:
    assert plan_job(paused).actions == ()
    shared = job({"function": {"name": "f.f"}, "suspend": True})
    assert plan_job(replace(paused, job=shared)).actions == ()


def test_a_suspended_job_of_an_earlier_operator_is_attached(paused: JobState) -> None:
    assert plan_job(replace(paused, untouched=False)).actions == (AttachJob(),)


def test_suspending_and_going_on_are_told_to_the_dispatcher_once(
    state: JobState, paused: JobState
) -> None:
    assert plan_job(replace(paused, attached=True)).actions == (SetSuspended(True),)
    assert plan_job(replace(paused, attached=True, held=True)).actions == ()
    assert plan_job(replace(state, attached=True, held=True)).actions == (SetSuspended(False),)


def test_a_suspended_job_follows_its_parallelism(paused: JobState) -> None:
    plan = plan_job(replace(paused, attached=True, held=True, parallelism=5))
    assert plan.actions == (SetParallelism(1),)


def test_nothing_ends_a_suspended_job_but_cancelling_it(paused: JobState, job: Make) -> None:
    spec = {"function": {"name": "f.f"}, "suspend": True, "activeDeadlineSeconds": 5}
    stuck = Crew(wanted=1, trouble=NO_ROOM, since=1.0)
    state = replace(
        paused,
        job=job(spec),
        problem=Problem(Reason.BUCKET_NOT_FOUND, "no bucket"),
        crews=(stuck,),
        accepted=1.0,
    )
    assert plan_job(state) == plan_job(replace(state, accepted=NOW))
    assert plan_job(state).actions == ()
    (action,) = plan_job(replace(state, job=job({**spec, "cancel": True}))).actions
    assert isinstance(action, FinishJob)
    assert action.reason is Reason.CANCELLED
