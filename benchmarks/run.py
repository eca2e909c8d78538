"""`make bench`: measure, print a table, and leave it in results.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import calls
import environments
import floors
import mirrored
import yaml

import shoal
from shoal import kube

HERE = Path(__file__).parent

#: What peers needed, measured on one machine of two cores (Ray 2.60, Dask 2026.8, Lithops 3.8).
PEERS = {
    "warm call": "Ray 1.7 ms and Dask 10.3 ms in one process tree; Lithops 0.41 s; "
    "on a cluster Dask 10.5 ms, Lithops 6.07 s",
    "10,000 no-ops": "Ray 6.3 s, Dask 22.2 s on one machine; Dask on a cluster 11.2 s; "
    "Lithops on a cluster 18.2 s for 100",
}


async def measure(scale: int, million: bool) -> list[tuple[str, str, str, str]]:
    """Return rows of (what, figure, ratio or goal's unit, goal)."""
    goals = yaml.safe_load((HERE / "limits.yaml").read_text())
    host = shoal.Kubernetes()
    async with await kube.connect() as api:
        say("floor: round trip of a resource")
        trip = await floors.round_trip(api, 5 * scale)
        say("floor: a bare Pod")
        line, done = await floors.bare_pod(api, scale, token=False)
        token_line, _ = await floors.bare_pod(api, scale, token=True)
    say("warm call")
    warm = await calls.warm_call(host, 10 * scale)
    say("cold call")
    cold = await calls.cold_call(scale)
    say("10,000 no-ops")
    ten = await calls.no_ops(host, 10_000, scale)
    say("first result")
    first = await calls.first_result(host, scale)
    say("environment")
    async with await kube.connect() as api:
        made = await environments.measure(api, scale)
    say("code")
    async with await kube.connect() as api:
        sent = await mirrored.measure(api, scale)
    say("what is active")
    again = await calls.found_again(10 * scale)
    say("import")
    imported = calls.import_time(3 * scale)
    rows = [
        ("floor: round trip of a resource", ms(trip), "", ""),
        ("floor: bare Pod, first Python line", ms(line), "", ""),
        ("floor: bare Pod with a projected token, first line", ms(token_line), "", ""),
        ("floor: bare Pod, Succeeded", ms(done), "", ""),
        row("warm call", warm, warm / trip, goals["warm_call_to_round_trip"], "x round trip"),
        row("", warm, warm / done, goals["warm_call_to_bare_pod"], "x a bare Pod"),
        row("cold call", cold, cold / line, goals["cold_call_to_first_line"], "x first line"),
        row("", cold, cold / token_line, goals["cold_call_to_token_line"], "x first line, token"),
        row("", cold, cold / done, goals["cold_call_to_bare_pod"], "x a bare Pod"),
        row("10,000 no-ops, two warm workers", ten, ten, goals["map_10k_seconds"], "s"),
        row(
            "result known after its task's return", first, first, goals["first_result_seconds"], "s"
        ),
        (
            f"{environments.PACKAGES} packages, {made.size / 1e6:.0f} MB packed: installed",
            ms(made.build),
            "",
            "",
        ),
        ("fetched and unpacked alone", ms(made.alone), "", ""),
        row(
            "cold call with it",
            made.cold,
            made.cold / made.alone,
            goals["environment_to_alone"],
            "x alone",
        ),
        row(
            "warm call with it",
            made.warm,
            made.warm / made.plain,
            goals["environment_warm"],
            "x one without",
        ),
        *code_rows(sent, goals),
        row("what is active found again", again, again, goals["found_again_seconds"], "s"),
        row("import shoal", imported, imported, goals["import_seconds"], "s"),
    ]
    if million:
        say("1,000,000 no-ops")
        most = await calls.no_ops(host, 1_000_000, 1)
        rows.append(row("1,000,000 no-ops", most, most, goals["map_1m_seconds"], "s"))
    return rows


def code_rows(sent: mirrored.Figures, goals: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Return the rows of an upload of code, and of one after a change."""
    seconds, size = goals["code_again_seconds"], goals["code_again_bytes"]
    return [
        (
            f"{mirrored.FILES} files of code, {sent.size / 1e6:.1f} MB packed: uploaded",
            ms(sent.seconds),
            "",
            "",
        ),
        row(
            f"again after a change: {sent.size_again / 1e6:.2f} MB",
            sent.seconds_again,
            sent.seconds_to_first,
            seconds,
            "x the time",
        ),
        row("", sent.seconds_again, sent.size_to_first, size, "x the bytes"),
    ]


def row(
    what: str, seconds: float, value: float, goal: float, unit: str
) -> tuple[str, str, str, str]:
    """Return one row; what misses its goal says so."""
    verdict = "" if value <= goal else " (missed)"
    return what, ms(seconds), f"{value:.3g} {unit}{verdict}", f"{goal:g} {unit}"


def ms(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return f"{1000 * seconds:.1f} ms"


def say(text: str) -> None:
    """Tell what is being measured."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--scale", type=int, default=10, help="repetitions (default 10)")
    parser.add_argument("--million", action="store_true", help="also a map of 1,000,000 items")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.scale, options.million))
    lines = [
        "# Results",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, Shoal {shoal.__version__}; medians. "
        "Written by `make bench`.",
        "",
        "| what | median | against | goal |",
        "|---|---|---|---|",
        *(f"| {' | '.join(cells)} |" for cells in rows),
        "",
        "Peers, measured earlier on a machine of the same size:",
        "",
        *(f"- {what}: {text}" for what, text in PEERS.items()),
        "",
    ]
    (HERE / "results.md").write_text("\n".join(lines))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
