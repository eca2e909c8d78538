"""One failure in ten thousand costs one result."""

from __future__ import annotations

from collections import Counter

import pytest
from ledgers import read
from namespaces import Place

import shoal

HERE = shoal.Deployment()


async def test_one_failure_in_ten_thousand_costs_one_result(user: Place) -> None:
    def picky(item: int) -> int:
        if item == 7_777:
            raise ValueError("not this one")
        return -item

    with pytest.raises(shoal.RunMapTasksFailedException) as caught:
        await shoal.run_map(picky, range(10_000), user.host(), None, HERE, 2, name="partial")
    results = caught.value.results
    assert len(results) == 10_000
    assert [i for i, result in enumerate(results) if result != -i] == [7_777]
    assert results[7_777] is None
    (failed,) = caught.value.failed
    assert (failed.task_id, failed.attempt, failed.state) == (7_777, 1, "PYTHON_EXCEPTION")
    with pytest.raises(shoal.TaskException, match="ValueError: not this one"):
        failed.result_or_raise()
    status = (await user.get("MapJob", "partial"))["status"]
    assert (status["phase"], status["succeeded"], status["failed"]) == ("Failed", 9_999, 1)
    book = await read(user, status)
    assert Counter(record.task for record in book.records) == Counter(range(10_000))
    # another process gets the same, any time later
    handle = await shoal.attach("partial", user.host())
    with pytest.raises(shoal.RunMapTasksFailedException) as again:
        await handle.result()
    assert again.value.results == results
