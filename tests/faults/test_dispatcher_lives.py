"""The dispatcher dies before and after each await that it has; real workers go on."""

from __future__ import annotations

import random
import signal
import socket
from pathlib import Path
from typing import Any

from . import points
from .dispatcher_jobs import LocalJob, Works, unfinished
from .lives import Death, Lives
from .local_workers import LocalWorkers

LONGEST = 30.0
"""Seconds after which a life that does not die must have ended every job."""
ALONE = 0.15
"""For so many seconds of a life one point is armed alone; then all that are left, to save time."""
SURVIVED = 6
"""So many lives in a row that reached no point left: the others are not to be reached."""
RARE = {
    ("Dispatcher._tick", "asyncio.sleep(1.0)"),  # after a failure that nobody foresaw
    ("LedgerReader.read", "self._rest(self._after)"),  # only clients begin in the middle
    ("LedgerReader._rest", "self._get(ledger.key(self._prefix, after.length - 1))"),
    # only the operator has environments built
    ("application.place", "environment(worker, str(json.loads(body)['environment']))"),
    ("Tar.pieces", "asyncio.to_thread(file.read, PIECE)"),
    # only jobs that have not ended come back here
    ("Run.recover", "self.file.write(self.store, self._trouble)"),
}
"""What the scenario does not reach, or not for certain."""


async def test_a_dispatcher_that_dies_at_any_await_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    every = {point.name: point for point in points.points_of(points.DISPATCHER)}
    works, chance = Works(tmp_path), random.Random(1)
    jobs: list[LocalJob] = []
    left, deaths, survived = set(every), list[Death](), 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        async with (
            LocalWorkers(tmp_path, port),
            Lives("dispatcher", tmp_path / "lives", inherited=[descriptor]) as lives,
        ):

            async def live(armed: list[str], **more: Any) -> Death:
                return await lives.live(
                    armed,
                    seconds=LONGEST,
                    listener=descriptor,
                    folder=str(tmp_path),
                    jobs=[job.order for job in unfinished(works, jobs)],
                    seed=lives.count,
                    **more,
                )

            while left and survived < SURVIVED:
                if len(unfinished(works, jobs)) < 8:
                    jobs += works.round()
                death = await live(
                    [chance.choice(sorted(left))],
                    later=sorted(left),
                    later_seconds=0.0 if survived else ALONE,
                    # of those that reach nothing new every other one is cut short, so that there
                    # is something to recover
                    stop_after=chance.uniform(0.1, 0.5) if survived % 2 else None,
                )
                deaths.append(death)
                left.discard(death.killed_by)
                survived = 0 if death.killed_by else survived + 1
            deaths.append(await live([]))
    assert {death.exit_code for death in deaths} <= {0, 137, -signal.SIGTERM}, (
        lives.log.read_text()[-5000:]
    )
    assert unfinished(works, jobs) == []
    wrong = {job.order["name"]: found for job in jobs if (found := await works.complaints(job))}
    assert wrong == {}
    assert {(every[name].where, every[name].text) for name in left} <= RARE
