"""The whole sweep on a cluster: the operator dies at every point, one life after the other.

    python -m faults.sweep [--seed N] [--at-most SECONDS] [--state FILE]

Each life has one point of those that are left; after a while all that are left are armed, so that
no life is spent for nothing. A life that nothing kills gets a SIGTERM, as a Pod that is deleted,
so that the points of stopping are reached, too. With a file for its state a sweep can be done in
parts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from shoal.kube import connect

from . import points
from .lives import Death, Lives
from .release import OTHERS_NAMES, Release
from .stream import Stream

ALONE = 1.5
"""For so many seconds of a life its point is armed alone."""
LONGEST = (4.0, 12.0)
"""Seconds after which a life is stopped as a Pod is."""
SURVIVED = 12
"""So many lives in a row that reached no point left: the others are not to be reached."""
STOP_SECONDS = 40.0
"""An operator must have stopped so long after its SIGTERM."""


@dataclass
class Tally:
    """What a sweep has found so far."""

    left: list[str]
    survived: int = 0
    lives: int = 0
    maps: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def load(cls, path: Path | None, every: list[str]) -> Tally:
        """Go on where a part before this one ended."""
        if path is None or not path.exists():
            return cls(every)
        known = json.loads(path.read_text())
        known["left"] = [name for name in known["left"] if name in every]
        return cls(**known | {"maps": Counter(known["maps"])})

    def note(self, death: Death) -> None:
        """Count a life."""
        self.lives += 1
        if death.killed_by:
            self.left.remove(death.killed_by)
            self.survived = 0
            return
        self.survived += 1
        if death.exit_code != 0:
            self.troubles.append(f"life {death.number} ended with exit code {death.exit_code}")

    @property
    def is_over(self) -> bool:
        """Whether no further point is to be reached."""
        return not self.left or self.survived >= SURVIVED


async def sweep(tally: Tally, *, at_most: float, chance: random.Random, folder: Path) -> None:
    """Let the operator live and die until all points are done, or the time is over."""
    begun = time.monotonic()
    async with (
        await connect() as api,
        Release(api, folder) as release,
        Lives("operator", folder) as lives,
    ):
        stream, stop = Stream(release), asyncio.Event()
        stream.errands.append(stream.orphaned)
        running = asyncio.create_task(stream.run(stop))
        while not tally.is_over and time.monotonic() - begun < at_most:
            death = await lives.live(
                [chance.choice(tally.left)],
                later=tally.left,
                later_seconds=0.0 if tally.survived else ALONE,
                stop_after=chance.uniform(*LONGEST),
                seconds=LONGEST[1] + STOP_SECONDS,
                environment=release.environment,
            )
            tally.note(death)
            print(
                f"{time.monotonic() - begun:7.1f} s  {len(tally.left):4} left"
                f"  {sum(stream.done.values()):4} jobs"
                f"  {death.killed_by or f'stopped, exit code {death.exit_code}'}",
                flush=True,
            )
        last = lives.begin(environment=release.environment)
        stop.set()
        await running
        if stream.troubles:
            await release.save_logs()
        await stream.settle()
        lives.signal()
        tally.note(await last)
        tally.maps += stream.done
        tally.troubles += stream.troubles
    tally.seconds += time.monotonic() - begun


def table(tally: Tally, every: dict[str, points.Point]) -> str:
    """What a sweep found, for people."""
    rows = [
        ("points", len(every)),
        ("reached, and died at", len(every) - len(tally.left)),
        ("not reached in this scenario", len(tally.left)),
        ("lives", tally.lives),
        ("jobs", sum(tally.maps.values())),
        ("lost, doubled, wrong or hung", len(tally.troubles)),
        ("seconds", round(tally.seconds)),
    ]
    lines = [f"{what:32}{count:>8}" for what, count in rows]
    lines += [f"  {name:32}{count:>6}" for name, count in sorted(tally.maps.items())]
    if tally.troubles:
        lines += ["", "troubles:", *(f"  {trouble}" for trouble in tally.troubles)]
    if tally.left:
        lines += ["", "not reached:"]
        lines += [f"  {n}  {every[n].where}: {every[n].text[:60]}" for n in tally.left]
    return "\n".join(lines)


def main() -> int:
    """Run the command line; 0 when nothing was lost, doubled, wrong or hung."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--at-most", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--state", type=Path, help="go on where this file's part ended")
    chosen = parser.parse_args()
    every = {point.name: point for point in points.points_of(points.OPERATOR)}
    tally = Tally.load(chosen.state, list(every))
    folder = Path(tempfile.mkdtemp(prefix="shoal-faults-"))
    print(f"seed {chosen.seed}, {len(tally.left)} of {len(every)} points left, log in {folder}")
    chance = random.Random(chosen.seed)
    asyncio.run(sweep(tally, at_most=chosen.at_most, chance=chance, folder=folder))
    if chosen.state:
        chosen.state.write_text(json.dumps(vars(tally)))
    print(table(tally, every))
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    for name in OTHERS_NAMES:
        os.environ.pop(name, None)
    sys.exit(main())
