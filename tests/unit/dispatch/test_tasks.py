"""The bookkeeping of one job's tasks."""

from shoal.dispatch.tasks import CLAIM_SECONDS, Tasks
from shoal.worker import ranges


def tasks(total: int = 100, attempts: int = 1, disruptions: int = 5) -> Tasks:
    return Tasks(total, max_attempts=attempts, max_disruptions=disruptions, backoff=1.0)


def claim_all(book: Tasks, most: int = 7) -> list[int]:
    seen: list[int] = []
    while taken := book.claim(most, 0.0)[0]:
        seen.extend(ranges.each(taken))
    return seen


def test_every_task_is_claimed_once() -> None:
    assert claim_all(tasks(100)) == list(range(100))


def test_a_task_that_is_over_is_not_claimed_again() -> None:
    book = tasks(10)
    for index in (0, 4, 9):
        assert book.finish(index)
    assert not book.finish(4)
    assert claim_all(book) == [1, 2, 3, 5, 6, 7, 8]


def test_claims_shrink_toward_the_end_and_last_about_the_time_they_should() -> None:
    book = tasks(1000)
    book.timed(10, 1e-5)
    sizes = []
    while taken := book.claim(book.claim_size(4, 0.0), 0.0)[0]:
        sizes.append(ranges.count(taken))
    assert sizes[0] == 125
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    slow = tasks(1000)
    slow.timed(4, 4 * CLAIM_SECONDS / 10)
    assert slow.claim_size(4, 0.0) == 10


def test_of_unknown_tasks_few_are_claimed_at_once() -> None:
    assert tasks(1000).claim_size(4, 0.0) == 8
    assert tasks(20).claim_size(4, 0.0) == 1


def test_a_failed_task_waits_longer_before_each_attempt() -> None:
    book = tasks(1, attempts=9)
    claim_all(book)
    waits = []
    for _ in range(8):
        assert book.may_retry(0)
        book.charge(0, "attempt")
        waits.append(book.retry_later(0, now=100.0) - 100.0)
        assert book.claim(1, 100.0)[0] == []
        assert book.next_due() == 100.0 + waits[-1]
        assert book.claim(1, 200.0) == ([(0, 1)], len(waits) + 1)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not book.may_retry(0)


def test_suspects_are_reissued_one_by_one_and_before_the_rest() -> None:
    book = tasks(10)
    assert book.claim(4, 0.0)[0] == [(0, 4)]
    book.put_back([1, 2, 3], apart=True)
    assert [book.claim(5, 0.0)[0] for _ in range(4)] == [[(1, 2)], [(2, 3)], [(3, 4)], [(4, 9)]]


def test_tasks_of_a_lost_worker_are_first_in_line_together() -> None:
    book = tasks(10)
    book.claim(4, 0.0)
    book.put_back([2, 3])
    assert book.claim(3, 0.0)[0] == [(2, 5)]


def test_attempts_and_disruptions_have_budgets_of_their_own() -> None:
    book = tasks(1, attempts=2, disruptions=1)
    book.charge(0, "disruption")
    assert book.attempt_of(0) == 1
    assert book.may_retry(0)
    assert not book.may_reissue(0)
    book.charge(0, "attempt")
    assert book.attempt_of(0) == 2
    assert not book.may_retry(0)


def test_what_a_worker_holds_is_not_handed_out() -> None:
    book = tasks(10, attempts=3)
    book.claim(1, 0.0)
    book.charge(0, "attempt")
    book.retry_later(0, 0.0)
    book.put_back([5], apart=True)
    book.withdraw([0, 3, 4, 5])
    assert claim_all(book) == [1, 2, 6, 7, 8, 9]
    assert book.next_due() is None


def test_memory_does_not_grow_with_what_is_done() -> None:
    book = tasks(100_000)
    for index in ranges.each(book.claim(100_000, 0.0)[0]):
        book.finish(index)
    assert book.all_over
    assert not book.attempts
    assert not book.disruptions
    assert len(book._over) == 12_500
