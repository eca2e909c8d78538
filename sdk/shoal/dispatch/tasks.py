"""Which tasks of a job are left, claimed, waiting for another attempt, or over. Pure bookkeeping.

Memory does not grow with what is done: finished tasks are one bit each, what is left is a few
ranges, and only tasks that failed before have an entry of their own.
"""

from __future__ import annotations

import heapq

from shoal.worker import ranges
from shoal.worker.ranges import Range

#: A claim should keep a worker busy for about this long, in seconds.
CLAIM_SECONDS = 0.25
#: How many tasks the first claim takes at the most, while nobody knows how long a task takes.
FIRST_CLAIM = 8
#: No task takes less, in seconds; it bounds what a claim may hold.
SHORTEST_TASK = 1e-7
#: The longest wait before another attempt, in seconds.
LONGEST_BACKOFF = 60.0


def retry_wait(first: float, failures: int) -> float:
    """Return how long the attempt after so many failures waits, in seconds; `first` after one."""
    return min(first * 2.0 ** (failures - 1), max(first, LONGEST_BACKOFF))


class Tasks:
    """The tasks of one job."""

    def __init__(
        self,
        total: int,
        *,
        max_attempts: int,
        max_disruptions: int,
        backoff: float,
        sized: bool = False,
    ):
        """Start with all of `total` tasks to do.

        With `sized`, each attempt waits in a line of its own, for workers of its size.
        """
        self.total = total
        self.finished = 0
        self.attempts: dict[int, int] = {}
        self.disruptions: dict[int, int] = {}
        self._max_attempts = max_attempts
        self._max_disruptions = max_disruptions
        self._backoff = backoff
        self._sized = sized
        self._over = bytearray((total + 7) // 8)
        self._todo: list[Range] = [(0, total)] if total else []
        self._again: dict[int, list[int]] = {}
        self._waiting: list[tuple[float, int]] = []
        self._tried_in_line: set[int] = set()
        self.charging: set[int] = set()
        self._seconds = 0.0
        self._timed = 0

    # what is over

    def is_over(self, index: int) -> bool:
        """Tell whether a final outcome of the task was accepted."""
        return bool(self._over[index >> 3] & (1 << (index & 7)))

    def finish(self, index: int) -> bool:
        """Mark the task as over; return False if it was already."""
        byte, bit = index >> 3, 1 << (index & 7)
        if self._over[byte] & bit:
            return False
        self._over[byte] |= bit
        self.finished += 1
        if index in self._tried_in_line:  # it succeeded in a claim that was given up
            self.withdraw([index])
        self.attempts.pop(index, None)
        self.disruptions.pop(index, None)
        return True

    @property
    def all_over(self) -> bool:
        """Whether every task has its final outcome."""
        return self.finished == self.total

    # charges

    def attempt_of(self, index: int) -> int:
        """Return the number of the task's current attempt, from 1."""
        return self.attempts.get(index, 0) + 1

    def may_retry(self, index: int) -> bool:
        """Tell whether a failure now leaves the task another attempt."""
        return self.attempts.get(index, 0) + 1 < self._max_attempts

    def may_reissue(self, index: int) -> bool:
        """Tell whether a disruption now leaves the task another start."""
        return self.disruptions.get(index, 0) < self._max_disruptions

    def charge(self, index: int, kind: str) -> None:
        """Count a failed attempt ("attempt") or a disruption ("disruption") of the task."""
        counts = self.attempts if kind == "attempt" else self.disruptions
        counts[index] = counts.get(index, 0) + 1

    def size_of(self, index: int) -> int:
        """Return how many times the first attempt's memory the task's current attempt gets."""
        return self.size_of_attempt(self.attempt_of(index))

    def size_of_attempt(self, attempt: int) -> int:
        """Return how many times the first attempt's memory an attempt gets."""
        return attempt if self._sized else 1

    def sizes(self) -> dict[int, int]:
        """Return how many tasks wait for workers of each size; of size 1 those tried before."""
        counts = {size: len(line) for size, line in self._again.items() if line}
        for _, index in self._waiting:
            size = self.size_of(index)
            counts[size] = counts.get(size, 0) + 1
        return counts

    # what is left

    def recovered(self) -> None:
        """After all charges were counted again: put what was tried before into its line."""
        tried = sorted(self.attempts.keys() | self.disruptions.keys())
        self.withdraw(tried)
        self.put_back(tried, apart=True)

    def give_up(self, size: int) -> list[int]:
        """Take out of the line, and return, all tasks that wait for workers of a size."""
        found = list(self._again.get(size, ()))
        found += [index for _, index in self._waiting if self.size_of(index) == size]
        self.withdraw(found)
        return found

    def retry_later(self, index: int, now: float) -> float:
        """Put the task back with a delay that doubles with each attempt; return when it is due."""
        due = now + retry_wait(self._backoff, max(1, self.attempts.get(index, 1)))
        heapq.heappush(self._waiting, (due, index))
        self._tried_in_line.add(index)
        return due

    def put_back(self, indexes: list[int], *, apart: bool = False) -> None:
        """Put tasks back, first in the line; those that are over are left out.

        `apart` claims each of them alone: one of them may be what killed its worker.
        """
        left = [index for index in indexes if not self.is_over(index)]
        for index in reversed(left):
            if apart or self._was_tried(index):
                self._line(index).append(index)
                self._tried_in_line.add(index)
        if not apart:
            self._todo[:0] = ranges.of(index for index in left if not self._was_tried(index))

    def _was_tried(self, index: int) -> bool:
        return index in self.attempts or index in self.disruptions

    def _line(self, index: int) -> list[int]:
        return self._again.setdefault(self.size_of(index), [])

    def next_due(self) -> float | None:
        """Return when the next waiting task is due, or None."""
        return self._waiting[0][0] if self._waiting else None

    def ready(self, now: float, size: int = 1) -> int:
        """Return how many tasks workers of `size` can claim (some may be over already)."""
        while self._waiting and self._waiting[0][0] <= now:
            index = heapq.heappop(self._waiting)[1]
            self._line(index).insert(0, index)
        tried = len(self._again.get(size, ()))
        return tried + ranges.count(self._todo) if size == 1 else tried

    def timed(self, count: int, seconds: float) -> None:
        """Learn from `count` tasks that took `seconds` together."""
        self._timed += count
        self._seconds += max(seconds, count * SHORTEST_TASK)
        if self._timed > 10_000:
            self._timed, self._seconds = self._timed // 2, self._seconds / 2

    @property
    def seconds_each(self) -> float | None:
        """The mean time of a task in seconds, or None while none was timed."""
        return self._seconds / self._timed if self._timed else None

    def claim_size(self, workers: int, now: float) -> int:
        """Return how many tasks the next claim should take: fewer toward the end."""
        left, each = self.ready(now), self.seconds_each
        if each is None:
            return max(1, min(FIRST_CLAIM, left // (4 * workers)))
        by_time = int(CLAIM_SECONDS / each)
        return max(1, min(by_time, -(-left // (2 * workers))))

    def claim(self, most: int, now: float, size: int = 1) -> tuple[list[Range], int]:
        """Take up to `most` tasks; return their ranges and the attempt that all of them are in.

        A task that failed or was disrupted before is claimed alone, so that the next failure is
        known to be its own.
        """
        if not self.ready(now, size):
            return [], 1
        line = self._again.get(size, [])
        while line:
            index = line.pop()
            self._tried_in_line.discard(index)
            if not self.is_over(index):
                return [(index, index + 1)], self.attempt_of(index)
        taken: list[int] = []
        while size == 1 and len(taken) < most and self._todo:
            chunk = ranges.take(self._todo, most - len(taken))
            taken.extend(index for index in ranges.each(chunk) if not self.is_over(index))
        return ranges.of(taken), 1

    def withdraw(self, indexes: list[int]) -> None:
        """Take tasks out of the line: a worker turned out to hold them (after a restart)."""
        held = set(indexes)
        self._tried_in_line -= held
        for size, line in self._again.items():
            self._again[size] = [index for index in line if index not in held]
        self._waiting = [(due, index) for due, index in self._waiting if index not in held]
        heapq.heapify(self._waiting)
        self._todo = _without(self._todo, ranges.of(sorted(held)))


def _without(left: list[Range], gone: list[Range]) -> list[Range]:
    """Return `left` less `gone` (sorted)."""
    for low, high in gone:
        cut: list[Range] = []
        for start, stop in left:
            if stop <= low or high <= start:
                cut.append((start, stop))
                continue
            if start < low:
                cut.append((start, low))
            if high < stop:
                cut.append((high, stop))
        left = cut
    return left
