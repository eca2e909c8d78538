"""A short part of the sweep: the operator dies where it has done something and told nobody yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from . import points
from .lives import Lives
from .release import Release
from .stream import Stream

CHOSEN = [
    # (module, function, what is awaited, side)
    ("shoal_operator.lease", "Lease._write", "self._api.replace(", "after"),
    ("shoal_operator.running", "_operate", "_load(", "after"),
    ("shoal_operator.deployments", "make_deployment", "context.api.create(", "after"),
    ("shoal_operator.poolkeeping", "PoolKeeper._post", "context.api.create(", "after"),
    ("shoal_operator.statuswriting", "StatusWriter._patch", "self._api.patch(", "after"),
    ("shoal_operator.sweep", "Sweeper._expire", "self._context.api.delete(", "after"),
    ("shoal.dispatch.dispatcher", "Dispatcher.attach", "asyncio.shield(", "after"),
    ("shoal.dispatch.chain", "LedgerWriter._append", "self._create(", "before"),
    ("shoal.dispatch.chain", "LedgerWriter._append", "self._create(", "after"),
    ("shoal.dispatch.dispatcher", "Dispatcher.report", "durable", "after"),
    ("shoal.dispatch.routes", "_Routes.checked.handle", "handler(", "after"),
    ("shoal.dispatch.run", "Run.recover", "self.store.get(", "after"),
]
LONGEST = 25.0
"""Seconds in which one of the points that are left must be reached."""


def chosen() -> list[str]:
    """The names of the chosen points; each must be in the source."""
    every = points.points_of(points.OPERATOR)
    names = []
    for module, where, text, side in CHOSEN:
        found = [
            point.name
            for point in every
            if (point.module, point.where, point.side) == (module, where, side)
            and point.text.startswith(text)
        ]
        assert len(found) == 1, (module, where, text, found)
        names += found
    return names


def test_the_chosen_points_are_there() -> None:
    assert len(set(chosen())) == len(CHOSEN)


async def test_an_operator_that_dies_between_deed_and_word_loses_nothing(
    release: Release, tmp_path: Path
) -> None:
    left = chosen()
    async with Lives("operator", tmp_path) as lives:
        stream, stop = Stream(release), asyncio.Event()
        running = asyncio.create_task(stream.run(stop))
        while left:
            death = await lives.live(left, stop_after=LONGEST, environment=release.environment)
            assert death.killed_by, f"not reached: {left}; log: {lives.log}"
            left.remove(death.killed_by)
        last = lives.begin(environment=release.environment)
        stop.set()
        await running
        await stream.settle()
        lives.signal()
        assert (await last).exit_code == 0
    assert stream.troubles == []
