"""A job's workers by size: who is missing, and since when nobody is there."""

from __future__ import annotations

import pytest

from shoal_operator.crews import Crew, missing_workers, timed
from shoal_operator.reasons import Reason
from shoal_operator.trouble import Trouble

NO_ROOM = Trouble(Reason.UNSCHEDULABLE, "no node fits")
GOES = Crew(wanted=4, connected=2)


def test_the_clock_runs_from_when_trouble_left_the_job_without_a_worker() -> None:
    stuck = Crew(wanted=1, trouble=NO_ROOM)
    (first,) = timed([stuck], {}, 100.0)
    (later,) = timed([stuck], {1: first.since}, 150.0)
    assert (first.since, later.since) == (100.0, 100.0)
    assert later.ends_at(60.0) == 160.0


@pytest.mark.parametrize(
    "crew",
    [
        Crew(wanted=1),
        Crew(wanted=0, trouble=NO_ROOM),
        Crew(wanted=2, connected=1, trouble=NO_ROOM),
    ],
)
def test_the_clock_stands_while_nothing_is_in_the_way_or_wanted(crew: Crew) -> None:
    (seen,) = timed([crew], {1: 100.0}, 150.0)
    assert seen.since == 0.0
    assert seen.ends_at(60.0) is None


def test_larger_workers_are_waited_for_by_themselves_and_the_usual_ones_are_not() -> None:
    larger = Crew(size=2, wanted=1, trouble=NO_ROOM)
    assert [crew.since for crew in timed([GOES, larger], {}, 100.0)] == [0.0, 100.0]
    usual = Crew(wanted=1, trouble=NO_ROOM)
    at_work = Crew(size=2, wanted=1, connected=1)
    assert [crew.since for crew in timed([usual, at_work], {}, 100.0)] == [0.0, 0.0]


def test_what_can_not_heal_has_a_time_of_its_own() -> None:
    fatal = Trouble(Reason.POD_REJECTED, "no", 120.0)
    (crew,) = timed([Crew(wanted=1, trouble=fatal)], {}, 100.0)
    assert crew.ends_at(3600.0) == 120.0


def test_missing_workers_are_counted_and_explained() -> None:
    some = missing_workers([Crew(wanted=4, connected=2, trouble=NO_ROOM)])
    assert some == Trouble(Reason.UNSCHEDULABLE, "2 of 4 workers are missing: no node fits")
    one = missing_workers([Crew(wanted=4, connected=3, trouble=NO_ROOM)])
    assert one is not None
    assert one.message.startswith("1 of 4 workers is missing")
    larger = Crew(size=2, memory="1Gi", wanted=1, trouble=NO_ROOM)
    found = missing_workers([GOES, larger])
    assert found is not None
    assert found.message == "1 of 1 workers with 1Gi of memory is missing: no node fits"


@pytest.mark.parametrize(
    "crews",
    [
        [Crew(wanted=4, connected=1)],  # they are starting
        [Crew(wanted=4, connected=4, trouble=NO_ROOM)],  # it concerns others
        [Crew(wanted=4, trouble=NO_ROOM)],  # nobody is there: WorkersReady tells
    ],
)
def test_no_worker_is_missing_where_none_is_kept_away_or_all_are(crews: list[Crew]) -> None:
    assert missing_workers(crews) is None
