"""What the watch did not bring is found by the sweep, and what it brings is told on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from parts import Api, operator, pod_body, resource_body

from shoal_operator.resolve import resolve
from shoal_operator.settings import Settings
from shoal_operator.sweep import Sweeper


@pytest.fixture
def api() -> Api:
    made = Api()
    made.add("namespaces", {"metadata": {"name": "default"}})
    return made


@pytest.fixture
def plain(settings: Settings) -> Settings:
    """Settings of an operator without a bucket to clear."""
    return replace(settings, default_bucket="")


async def test_a_pod_whose_deletion_was_missed_is_gone_after_a_sweep(
    api: Api, plain: Settings
) -> None:
    context, reconciler, dispatcher = operator(api, plain)
    reconciler.pod_seen(api.add("pods", pod_body("stays")))
    reconciler.pod_seen(pod_body("missed"))
    await Sweeper(context, reconciler, lambda missed: None).once()
    assert [pod.uid for pod in context.cache.all_pods()] == ["stays"]
    assert dispatcher.lost["missed"]["why"] == "deleted"
    assert "stays" not in dispatcher.lost


async def test_a_pod_that_the_watch_never_brought_is_known_after_a_sweep(
    api: Api, plain: Settings
) -> None:
    context, reconciler, _ = operator(api, plain)
    api.add("pods", pod_body("unseen"))
    await Sweeper(context, reconciler, lambda missed: None).once()
    assert context.cache.pod("unseen") is not None


async def test_a_pod_that_ended_does_not_live_again(api: Api, plain: Settings) -> None:
    context, reconciler, _ = operator(api, plain)
    reconciler.pod_seen(pod_body("a", terminated={"exitCode": 1}))
    reconciler.pod_seen(pod_body("a"))  # a list that was asked for before
    fact = context.cache.pod("a")
    assert fact is not None
    assert fact.ended


async def test_a_worker_that_used_up_its_memory_names_job_and_task(
    api: Api, plain: Settings
) -> None:
    _, reconciler, dispatcher = operator(api, plain)
    reconciler.pod_seen(pod_body("a"))
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": "job-uid 7 1   "}
    reconciler.pod_seen(pod_body("a", terminated=ended))
    assert dispatcher.lost["a"] == {
        "why": "oom",
        "running": ("job-uid", 7),
        "unknown": False,
        "cause": "oom",
    }


async def test_a_worker_that_crashed_without_a_note_may_have_met_any_task(
    api: Api, plain: Settings
) -> None:
    _, reconciler, dispatcher = operator(api, plain)
    reconciler.pod_seen(pod_body("a"))
    reconciler.pod_seen(pod_body("a", terminated={"exitCode": 139, "reason": "Error"}))
    assert dispatcher.lost["a"] == {
        "why": "exited",
        "running": None,
        "unknown": True,
        "cause": "disruption",
    }


async def test_workers_wait_for_jobs_that_may_come_and_drop_those_that_ended(
    api: Api, plain: Settings
) -> None:
    context, reconciler, _ = operator(api, plain)
    assert context.cache.may_be_unfinished("job")  # nothing was listed yet
    finished = {"conditions": [{"type": "Finished", "status": "True"}]}
    api.add("jobs", resource_body("Job", "going", "going"))
    api.add("jobs", resource_body("Job", "over", "over", status=finished))
    await reconciler.load()
    assert context.cache.may_be_unfinished("going")
    assert not context.cache.may_be_unfinished("over")
    assert not context.cache.may_be_unfinished("unknown")
    await reconciler.close()


@pytest.mark.parametrize("isolation", ["job", "none"])
async def test_a_job_of_an_earlier_operator_is_attached_with_its_live_pods(
    api: Api, settings: Settings, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, reconciler, dispatcher = operator(api, settings)

    async def opened(storage: object) -> object:
        return object()

    monkeypatch.setattr(context.buckets, "open", opened)
    spec = {
        "function": {"name": "math.gcd", "args": [12, 18]},
        "isolation": isolation,
        "deployment": {"ref": "pool"},
    }
    body = resource_body("Job", "x", "job", spec=spec)
    reconciler.resource_seen("Deployment", resource_body("Deployment", "pool", "d"), created=False)
    reconciler.resource_seen("Job", body, created=False)
    job = context.cache.get("job")
    assert job is not None
    found = context.cache.named("Deployment", "default", "pool")
    pool = resolve(job, lambda name: found, settings).pool
    assert pool is not None
    reconciler.pod_seen(pod_body("lives", pool.owner_uid, pool.hash))
    reconciler.pod_seen(pod_body("ended", pool.owner_uid, pool.hash, terminated={"exitCode": 1}))
    reconciler.pod_seen(pod_body("elsewhere", "other", "0000"))
    await reconciler.jobs.reconcile("job")
    assert dispatcher.live == {"job": ["lives"]}
    await dispatcher.stop()
    await reconciler.close()
