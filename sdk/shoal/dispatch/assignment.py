"""Who works on a job: its claims, and the workers that hold them.

Pure bookkeeping over `tasks`, in memory alone: it decides what a worker may claim, keeps the number
of workers within the job's parallelism, and takes claims back. What an outcome means, and what is
charged for a lost worker, is for `run` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shoal.dispatch.claims import Claim, Claims
from shoal.dispatch.model import JobSpec
from shoal.dispatch.tasks import Tasks
from shoal.worker import ranges

#: A worker with several tasks that has not reported for so long gives back, in seconds, ...
STALL_SECONDS = 0.25
#: ... and is not asked again before so many more.
ASK_AGAIN_SECONDS = 1.0
#: A task is copied after so long, in seconds, and so many times the mean time of a task.
SPECULATE_SECONDS = 1.0
SPECULATE_FACTOR = 2.0


class Assignment:
    """The claims of one job."""

    def __init__(
        self,
        spec: JobSpec,
        tasks: Tasks,
        pool: str,
        *,
        sized: Callable[[int], str] | None,
        on_work: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """`pool` is that of the first attempts; `on_work` is called when tasks can be claimed."""
        self.parallelism, self.suspended, self.closed = spec.parallelism, spec.suspended, False
        self.claims = Claims()
        self.held_until = 0.0
        self.awaited: set[str] = set()
        self._spec, self._tasks = spec, tasks
        self._sized = sized if spec.more_memory else None
        self._sizes = {pool: 1}
        self._members: dict[str, int] = {}
        self._copies: set[int] = set()
        self._on_work, self._now = on_work, now

    def close(self) -> None:
        """Hand out nothing more: the job has ended, or is about to."""
        self.closed = True

    # after a restart

    def hold(self, until: float, pods: Iterable[str]) -> None:
        """After a restart: hand out nothing until each of `pods` told what it holds, or `until`."""
        self.held_until, self.awaited = until, set(pods)

    def lost(self, pod: str) -> None:
        """Note that a worker is gone, or does not say what it holds."""
        self._members.pop(pod, None)
        self.heard_from(pod)

    def heard_from(self, pod: str) -> None:
        """Note that a live worker has told what it holds."""
        if pod in self.awaited:
            self.awaited.discard(pod)
            if not self.awaited:
                self._on_work()

    # whose work it is

    def pools(self) -> list[str]:
        """Return the pools that work on the job, or could right now."""
        for size in self._tasks.sizes():
            self._pool_of(size)
        return list(self._sizes)

    def serves(self, pool: str) -> bool:
        """Tell whether workers of the pool may work on the job."""
        return pool in self._sizes or (self._sized is not None and pool in self.pools())

    def _pool_of(self, size: int) -> None:
        if self._sized is not None and size > 1 and size not in self._sizes.values():
            self._sizes[self._sized(size)] = size

    def _demand(self) -> dict[int, int]:
        """Return how many workers of each size the job can use, `parallelism` in all.

        Larger ones, for tasks that were tried before, get up to half of it while there are others.
        """
        if self.closed or self.suspended:
            return {}
        larger = {size: count for size, count in self._tasks.sizes().items() if size > 1}
        for claim in self.claims.values():
            if (size := self._tasks.size_of_attempt(claim.attempt)) > 1:
                larger[size] = larger.get(size, 0) + len(claim.left)
        usual = max(0, self._spec.total - self._tasks.finished - sum(larger.values()))
        room = self.parallelism // 2 if usual else self.parallelism
        demand: dict[int, int] = {}
        for size in sorted(larger):
            demand[size] = min(larger[size], room)
            room -= demand[size]
        copies = 2 if self._spec.speculation else 1
        demand[1] = min(self.parallelism - sum(demand.values()), usual * copies)
        return demand

    def larger_sizes(self) -> tuple[int, ...]:
        """Return the sizes beyond the first whose workers have something to do."""
        return tuple(sorted(size for size in self._demand() if size > 1))

    def wanted_workers(self, pool: str | None = None) -> int:
        """Return how many workers, of one pool or of all, could be busy with this job."""
        demand = self._demand()
        return sum(demand.values()) if pool is None else demand.get(self._sizes.get(pool, 0), 0)

    # claims

    @property
    def size(self) -> int:
        """The number of workers that have begun with the job and are not done with it."""
        return len(self._members)

    def claimable(self, pool: str) -> int:
        """Return how many tasks workers of a pool could claim now."""
        if self.closed or self.suspended or self._held() or not self.serves(pool):
            return 0
        return self._tasks.ready(self._now(), self._sizes[pool])

    def _held(self) -> bool:
        return bool(self.awaited) and self._now() < self.held_until

    def wakes_at(self) -> float | None:
        """Return when tasks become claimable by time alone, or None."""
        if self.closed or self.suspended:
            return None
        return self.held_until if self._held() else self._tasks.next_due()

    def claim(self, claim_id: str, worker: str, pool: str) -> Claim | None:
        """Hand tasks to a worker; None when there are none now, or enough workers have some.

        A worker that once got tasks stays a member of the job while it has any: the next claim is
        kept for it rather than given to another, which would have to begin with the job.
        """
        if not self.claimable(pool) or not self._has_room(worker, pool):
            self.leaves(worker)
            return None
        now, size = self._now(), self._sizes[pool]
        most = self._tasks.claim_size(max(1, min(self.parallelism, self._spec.total)), now)
        taken, attempt = self._tasks.claim(most, now, size)
        if not taken:
            return None
        return self._hand_out(Claim(claim_id, self._spec.id, worker, attempt, taken), size)

    def _hand_out(self, claim: Claim, size: int) -> Claim:
        claim.progress = self._now()
        self.claims.add(claim)
        self._members[claim.worker] = size
        return claim

    def _has_room(self, worker: str, pool: str) -> bool:
        """Whether the worker can be, or stay, a member."""
        size = self._sizes[pool]
        if len(self._sizes) == 1:
            return len(self._members) - (worker in self._members) < self.parallelism
        # a member without claims keeps its place only while there is something of its size
        now = self._now()
        others = [
            other
            for one, other in self._members.items()
            if one != worker and (self.claims.of(one) or self._tasks.ready(now, other))
        ]
        alike = others.count(size)
        return len(others) < self.parallelism and alike < self._demand().get(size, 0)

    def enough(self, worker: str) -> bool:
        """Tell whether what the worker holds keeps it busy until its next poll is answered."""
        held = self.claims.of(worker)
        left = sum(len(claim.left) for claim in held)
        if not left:
            return False
        each = self._tasks.seconds_each
        return each is None or left * each > 0.05 or self._is_stuck(held)

    def adopt(
        self, claim_id: str, worker: str, pool: str, tasks: list[ranges.Range], attempt: int
    ) -> None:
        """Take over a claim that a dispatcher before this one handed out.

        What was charged since is in another attempt, and in line again.
        """
        inside = [(start, min(stop, self._spec.total)) for start, stop in tasks]
        left = [
            index
            for index in ranges.each(inside)
            if not self._tasks.is_over(index)
            and self._tasks.attempt_of(index) == attempt
            and index not in self._tasks.charging
        ]
        if not left or self.suspended:
            return
        self._copies.update(index for index in left if self.claims.holds(index))
        self._tasks.withdraw(left)
        claim = Claim(claim_id, self._spec.id, worker, attempt, ranges.of(left))
        self._hand_out(claim, self._sizes.get(pool, 1))

    # what idle workers may do while others are busy

    @property
    def at_its_tail(self) -> bool:
        """Whether all that is left is in workers' hands."""
        return bool(self.claims) and not self._tasks.ready(self._now())

    def stalled(self, worker: str, pool: str) -> str | None:
        """Return a worker that should give back what it has not begun, for `worker` to take.

        It has several tasks in hand and has been at the first of them for a while.
        """
        if not self._may_help(worker, pool):
            return None
        size = self._sizes[pool]
        now, most, found = self._now(), 1, None
        for other in self.claims.workers():
            held = self.claims.of(other)
            left = sum(not self._tasks.is_over(index) for claim in held for index in claim.left)
            asked = now - max(claim.asked for claim in held) <= ASK_AGAIN_SECONDS
            if (
                left > most
                and self._is_stuck(held)
                and self._members.get(other) == size
                and not asked
            ):
                most, found = left, other
        return found

    def asked(self, worker: str) -> None:
        """Note that a worker was asked to give back what it has not begun."""
        for claim in self.claims.of(worker):
            claim.asked = self._now()

    def _is_stuck(self, held: list[Claim]) -> bool:
        """Whether nothing came of a worker's claims for a while: it is at one long task."""
        return self._now() - max(claim.progress for claim in held) > STALL_SECONDS

    def returned(self, claim_id: str, worker: str, tasks: Iterable[int]) -> None:
        """Take tasks that a worker gave back unbegun."""
        claim = self.claims.get(claim_id)
        if claim is None or claim.worker != worker:
            return
        back = [index for index in tasks if index in claim.left]
        for index in back:
            del claim.left[index]
        self.claims.drop_if_done(claim)
        alone = [index for index in back if not self.is_copied(index)]
        self._tasks.put_back(alone)
        if alone:
            self._on_work()

    def copy(self, claim_id: str, worker: str, pool: str) -> Claim | None:
        """Hand the task that has been running longest to a second worker, if that may pay."""
        if not self._spec.speculation or not self._may_help(worker, pool):
            return None
        now = self._now()
        slow = max(SPECULATE_SECONDS, SPECULATE_FACTOR * (self._tasks.seconds_each or 0.0))
        found = [
            claim
            for claim in self.claims.values()
            if claim.worker != worker
            and len(claim.left) == 1
            and now - claim.progress > slow
            and not self._tasks.is_over(next(iter(claim.left)))
            and next(iter(claim.left)) not in self._copies
            and self._tasks.size_of_attempt(claim.attempt) == self._sizes[pool]
        ]
        slowest = min(found, key=lambda one: one.progress, default=None)
        if slowest is None:
            return None
        (index,) = slowest.left
        self._copies.add(index)
        twin = Claim(claim_id, self._spec.id, worker, slowest.attempt, [(index, index + 1)])
        return self._hand_out(twin, self._sizes[pool])

    def _may_help(self, worker: str, pool: str) -> bool:
        idle = not (self.closed or self.suspended or self._held() or self.claims.of(worker))
        return idle and self.serves(pool) and self._has_room(worker, pool)

    def is_copied(self, index: int) -> bool:
        """Whether some live claim holds the task (asked after another claim let go of it)."""
        if index not in self._copies:
            return False
        if self.claims.holds(index):
            return True
        self._copies.discard(index)
        return False

    def suspend(self, suspended: bool) -> None:
        """Take everything back and hand out nothing, or go on."""
        self.suspended = suspended
        for claim in list(self.claims.values()):
            self._tasks.put_back(self.take_back(claim))
        self._members.clear()
        self._on_work()

    # claims that end otherwise

    def take_back(self, claim: Claim) -> list[int]:
        """Forget a claim; return those of its tasks that are not over and that no other has."""
        self.claims.remove(claim)
        return [
            index
            for index in claim.left
            if not self._tasks.is_over(index) and not self.is_copied(index)
        ]

    def give_back(self, claim: Claim) -> None:
        """Put the tasks of a claim that never reached its worker back in line."""
        self._tasks.put_back(self.take_back(claim))
        self._on_work()

    def is_member(self, worker: str) -> bool:
        """Tell whether the worker got tasks of this job, and of no other since then."""
        return worker in self._members

    def leaves(self, worker: str) -> None:
        """Note that a worker gets no tasks here now: without claims it is no member."""
        if not self.claims.of(worker):
            self._members.pop(worker, None)

    def finish(self, index: int) -> None:
        """Forget what is known of a task that is over."""
        self._copies.discard(index)

    def reported(self, claim: Claim) -> None:
        """Note that a claim's worker has reported some of it."""
        claim.progress = self._now()
        self.claims.drop_if_done(claim)
