"""`make soak`: random faults against a stream of maps, and what the cluster survived.

Prints its seed; `--seed` replays the order of faults. Ends with code 1 if anything was lost,
doubled, wrong, hung or broken, and says which map it was, with the faults around it.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import dataclasses
import random
import secrets
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "cluster")]

from chaos import Chaos, until_well  # noqa: E402
from namespaces import Place, give_key, make_place  # noqa: E402
from soak_faults import Faults, Turn  # noqa: E402
from soak_maps import LEAST_ATTEMPTS, MANY_DISRUPTIONS, Clients, Maps  # noqa: E402

from cluster import faults as machine  # noqa: E402
from cluster import folders  # noqa: E402
from shoal import manifests  # noqa: E402
from shoal.errors import ApiError  # noqa: E402
from shoal.kube import NAMESPACES, connect  # noqa: E402
from shoal.machinery import Call  # noqa: E402

SETTLING = 0.06
"""Part of the time at the end in which no fault begins, so that the last maps end in peace."""
SAMPLE_SECONDS = 5.0
TROUBLES = ("lost", "doubled", "wrong", "hung", "broken", "ended")


class Memory:
    """Resident memory of operator and workers over time, in MiB."""

    def __init__(self, chaos: Chaos, place: Place) -> None:
        self._chaos, self._place = chaos, place
        self.samples: dict[str, list[tuple[float, float]]] = {"operator": [], "worker": []}

    async def sample(self) -> None:
        """Take samples until cancelled."""
        while True:
            try:
                pods = {
                    "operator": await self._chaos.operators(),
                    "worker": await self._place.pods(),
                }
            except ApiError:
                pods = {}
            now = time.monotonic()
            for what, found in pods.items():
                uids = [pod["metadata"]["uid"] for pod in found]
                sizes = await asyncio.to_thread(
                    lambda uids=uids: [*filter(None, map(resident, uids))]
                )
                if sizes:
                    self.samples[what].append((now, max(sizes)))
            await asyncio.sleep(SAMPLE_SECONDS)

    def around(self, what: str, start: float, end: float) -> str:
        """Median and most of the samples of a stretch of time."""
        found = [size for at, size in self.samples[what] if start <= at <= end]
        return f"{statistics.median(found):.0f} ({max(found):.0f})" if found else "-"


def resident(uid: str) -> float:
    """Resident memory of the first process of a Pod's container, in MiB; 0 if there is none."""
    for depth, pid in machine.processes_of_pod(folders.from_environment(), uid):
        if depth == 0:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            return float(status.partition("VmRSS:")[2].split()[0]) / 1024
    return 0.0


def generous() -> None:
    """Let no map of the SDK's fail for what faults may rightly charge."""
    prepare = manifests.prepare

    def prepared(call: Call, place: Any) -> manifests.Prepared:
        found = prepare(call, place)
        spec = found.model.spec
        tries = max(spec.max_attempts, LEAST_ATTEMPTS)
        update = {"max_disruptions": MANY_DISRUPTIONS, "max_attempts": tries}
        spec = spec.model_copy(update=update)
        return dataclasses.replace(found, model=found.model.model_copy(update={"spec": spec}))

    manifests.prepare = prepared


def recoveries(turns: Iterable[Turn], arrivals: list[float]) -> dict[str, float]:
    """The longest time from each kind of fault's end to the next result that came to a caller."""
    slowest: dict[str, float] = {}
    for turn in turns:
        at = bisect.bisect_right(arrivals, turn.end)
        if at < len(arrivals):
            slowest[turn.kind] = max(slowest.get(turn.kind, 0.0), arrivals[at] - turn.end)
    return slowest


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def narrate(faults: Faults, maps: Maps, begun: float) -> None:
    """Say once in a while how it stands."""
    while True:
        await asyncio.sleep(20)
        bad = sum(bool(ran.trouble) for ran in maps.ran)
        say(
            f"{time.monotonic() - begun:6.0f} s: {len(faults.turns)} faults, {len(maps.ran)} maps, "
            f"{bad} in trouble, {len(maps.running)} running"
        )


def report(
    faults: Faults, maps: Maps, memory: Memory, stretch: tuple[float, float], left: list[str]
) -> list[str]:
    """The table."""
    begun, end = stretch
    slowest = recoveries(faults.turns, sorted(maps.arrivals))
    counts = Counter(turn.kind for turn in faults.turns)
    kinds = faults.kinds()
    row = {kind.name: kind.row for kind in kinds}
    of_row = Counter(row[turn.kind] for turn in faults.turns)
    lines = ["", "| row | times | fault | times | slowest next result |", "|---|---|---|---|---|"]
    for kind in sorted(kinds, key=lambda kind: kind.row):
        shown = f"{slowest[kind.name]:.1f} s" if kind.name in slowest else "-"
        times = f"{of_row[kind.row]} | {kind.name} | {counts[kind.name]}"
        lines.append(f"| {kind.row} | {times} | {shown} |")
    lines += [f"| all | {len(faults.turns)} | | | |", "", "| maps | times | in trouble | slowest |"]
    lines.append("|---|---|---|---|")
    for kind in sorted({ran.kind for ran in maps.ran}):
        ran = [one for one in maps.ran if one.kind == kind]
        trouble = sum(bool(one.trouble) for one in ran)
        longest = max(one.end - one.start for one in ran)
        lines.append(f"| {kind} | {len(ran)} | {trouble} | {longest:.1f} s |")
    found = Counter(text.partition(":")[0] for ran in maps.ran for text in ran.trouble)
    lines += [
        f"| all | {len(maps.ran)} | {sum(bool(ran.trouble) for ran in maps.ran)} | |",
        "",
        f"results checked: {sum(ran.results for ran in maps.ran)}; maps submitted again because "
        f"the API server or the bucket was away: {maps.resubmitted}, because no operator answered "
        f"for 20 s: {maps.unanswered}; clients killed and their maps "
        f"attached to: {maps.attached}",
        ", ".join(
            f"{word}: {found[word]}"
            for word in ("lost", "doubled", "wrong", "hung", "broken", "ended")
        ),
        f"left behind in the bucket: {', '.join(left[:20]) or 'nothing'}",
        "",
        "| resident memory, MiB: median (most) | first fifth | last fifth |",
        "|---|---|---|",
    ]
    fifth = (end - begun) / 5
    for what in memory.samples:
        first = memory.around(what, begun, begun + fifth)
        last = memory.around(what, end - fifth, end)
        lines.append(f"| {what} | {first} | {last} |")
    return lines


def findings(faults: Faults, maps: Maps, begun: float) -> list[str]:
    """Each map in trouble, with the faults in its time."""
    lines = []
    for ran in maps.ran:
        for text in ran.trouble:
            lines.append(f"{ran.kind} {ran.name}: {text}")
        if ran.trouble:
            lines.append(f"   from {ran.start - begun:.1f} to {ran.end - begun:.1f} s; faults:")
            lines += [
                f"   {turn.start - begun:7.1f} to {turn.end - begun:7.1f} s  {turn.kind}"
                for turn in faults.turns
                if turn.end >= ran.start - 10 and turn.start <= ran.end
            ]
    lines += [f"fault not done: {t.kind}: {t.error}" for t in faults.turns if not t.end or t.error]
    return lines


async def soak(options: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    seconds, seed = options.seconds, options.seed
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # faults are undone on the way out
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    generous()
    async with await connect() as api:
        chaos = Chaos(api)
        await chaos.until_operator()
        place = await make_place(api, "soak")
        await give_key(place)
        without = frozenset(options.without.split(","))
        maps = Maps(place, random.Random(seed + 1), without)
        clients = Clients(maps, str(HERE / "soak_client.py"))
        faults = Faults(chaos, place, clients.kill_one, random.Random(seed))
        memory = Memory(chaos, place)
        begun = time.monotonic()
        working = seconds * (1 - SETTLING)
        beside = [asyncio.create_task(memory.sample())]
        beside.append(asyncio.create_task(narrate(faults, maps, begun)))
        async with asyncio.TaskGroup() as group:
            group.create_task(faults.run(working, options.faults_per_second))
            for _ in range(options.streams):
                group.create_task(maps.stream(begun + working))
        await clients.drain()
        stretch = (begun, time.monotonic())
        for task in beside:
            task.cancel()
        await until_well(api)
        left = await leftovers(place)
        for line in report(faults, maps, memory, stretch, left):
            print(line)
        wrong = findings(faults, maps, begun)
        print("\n".join(["", *wrong]))
        bad = any(ran.trouble for ran in maps.ran) or bool(left)
        if not (options.keep and bad):
            await api.delete(NAMESPACES, place.namespace)
    print(f"seed {seed}: {'NOT all is well' if bad else 'all is well'}")
    return int(bad)


async def leftovers(place: Place, patience: float = 120.0) -> list[str]:
    """What is left of deleted maps in the bucket, when the sweep had its time."""
    from namespaces import bucket

    from shoal.kube import CONFIGMAPS

    storage = await bucket(place.api)
    told = (await place.api.get(CONFIGMAPS, "shoal", place.namespace))["data"]
    prefix = f"{told['clusterId']}/{place.namespace}/jobs/"
    end = time.monotonic() + patience
    while True:
        keys = await asyncio.to_thread(lambda: [info.key for info in storage.list(prefix)])
        if not keys or time.monotonic() > end:
            return [key.removeprefix(prefix) for key in keys]
        await asyncio.sleep(2)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--streams", type=int, default=8, help="maps at one time")
    parser.add_argument("--faults-per-second", type=float, default=0.22)
    parser.add_argument("--keep", action="store_true", help="leave the namespace after trouble")
    parser.add_argument("--without", default="", help="kinds of maps to leave out, by commas")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    try:
        return asyncio.run(soak(options))
    except asyncio.CancelledError:
        print("interrupted; what was hurt is healed", flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
