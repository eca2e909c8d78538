"""``python3 -m cluster``: the commands, and nothing else."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import choice, environment, folders, imagebuild
from cluster.choice import Cluster
from cluster.errors import ClusterError
from cluster.faults import Faults
from cluster.folders import Folders
from cluster.steps import say

#: Commands that change something, one at a time.
CHANGING = (
    *("up", "down", "build", "images", "load", "build-image", "stop-node", "start-node"),
    *("stop", "start"),
)


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(words)
    places = folders.from_environment()
    try:
        if arguments.command == "bin":
            print(places.bin)
            return 0
        chosen = choice.of_environment()
        if arguments.command != "env":
            say(str(chosen))
        cluster = choice.make(chosen, places)
        if arguments.command not in CHANGING:
            return perform(arguments, cluster, places)
        started = time.monotonic()
        with alone(places):
            code = perform(arguments, cluster, places)
        say(f"cluster: {arguments.command} done in {time.monotonic() - started:.1f} s")
        return code
    except ClusterError as error:
        say(f"cluster: {error}")
        return 1


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    top = argparse.ArgumentParser(prog="python3 -m cluster", description="A cluster for Shoal.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="have a healthy cluster, starting what is missing")
    commands.add_parser("down", help="take it away; binaries and images stay in the cache")
    commands.add_parser("status", help="each component and node; exit code 0 only when all is well")
    commands.add_parser("env", help="print export lines for the shell's eval")
    commands.add_parser("bin", help="print the folder of helm and kubectl")
    commands.add_parser("build", help="build binaries and images without starting anything")
    commands.add_parser("images", help="list the images that the cluster brings")
    load = commands.add_parser("load", help="import image archives into both nodes")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    image = commands.add_parser(
        "build-image", help="build an image with docker or buildah, load it"
    )
    image.add_argument("--dockerfile", required=True, type=Path)
    image.add_argument("--context", required=True, type=Path)
    image.add_argument("--tag", required=True)
    for name, does in (("stop-node", "kill a node as a power cut does"), ("start-node", "undo it")):
        commands.add_parser(name, help=does).add_argument("node", metavar="node-2")
    add_faults(commands)
    return top


def add_faults(commands: Any) -> None:
    """Add the commands that hurt the embedded cluster, for tests."""
    for name, does in (
        ("stop", "kill a component, as a crash does"),
        ("start", "start it again"),
        ("pause", "let a component hang"),
        ("resume", "let it go on"),
        ("drop-connections", "reset the connections to a component"),
    ):
        commands.add_parser(name, help=does).add_argument("component", metavar="kube-apiserver")
    to_pod = commands.add_parser("signal-pod", help="signal a Pod's processes from outside")
    to_pod.add_argument("uid")
    to_pod.add_argument("signal", metavar="KILL")
    to_pod.add_argument("--depth", type=int, help="0: only its containers' first processes, ...")
    cut = commands.add_parser("cut", help="let nothing through to an address")
    cut.add_argument("address")
    cut.add_argument("--port", type=int)
    cut.add_argument("--refuse", action="store_true", help="say so instead of losing packets")
    mend = commands.add_parser("mend", help="undo a cut, or all of them")
    mend.add_argument("address", nargs="?")
    mend.add_argument("--port", type=int)


def perform(arguments: argparse.Namespace, cluster: Cluster, places: Folders) -> int:
    """Do what the command says; returns the exit code."""
    match arguments.command:
        case "up":
            cluster.up()
            say(f"  KUBECONFIG={cluster.kubeconfig}")
        case "down":
            cluster.down()
        case "build":
            cluster.build()
        case "images":
            imagebuild.list_images(places)
        case "load":
            for archive in arguments.archives:
                cluster.load(archive.resolve())
        case "build-image":
            cluster.load(imagebuild.build(places, arguments))
        case "stop-node":
            cluster.stop_node(arguments.node)
        case "start-node":
            cluster.start_node(arguments.node)
        case "status":
            return status(cluster)
        case "env":
            print_environment(cluster, places)
        case _:
            hurt(arguments, cluster.faults)
    return 0


def hurt(arguments: argparse.Namespace, faults: Faults) -> None:
    """Do or undo one fault."""
    match arguments.command:
        case "stop":
            faults.stop(arguments.component)
        case "start":
            faults.start(arguments.component)
        case "pause":
            faults.pause(arguments.component)
        case "resume":
            faults.resume(arguments.component)
        case "drop-connections":
            faults.drop_connections(arguments.component)
        case "signal-pod":
            number = getattr(signal.Signals, f"SIG{arguments.signal}", None)
            if number is None:
                raise ClusterError(f"no signal {arguments.signal!r}; name it as in KILL or STOP")
            faults.signal_pod(arguments.uid, number, depth=arguments.depth)
        case "cut":
            faults.cut(arguments.address, arguments.port, refuse=arguments.refuse)
        case "mend":
            faults.mend(arguments.address, arguments.port)


def status(cluster: Cluster) -> int:
    """Print each component and node; 0 only when all is well."""
    rows = cluster.report()
    width = max(len(name) for name, _, _ in rows)
    for name, known, well in rows:
        print(f"{name:{width}}  {'healthy' if well else 'NOT HEALTHY':11}  {known}")
    return 0 if all(well for _, _, well in rows) else 1


def print_environment(cluster: Cluster, places: Folders) -> None:
    """Print the export lines, and nothing else, on stdout."""
    values = environment.variables(
        kubeconfig=cluster.kubeconfig,
        bin_folder=places.bin,
        endpoint=cluster.endpoint,
        environ=os.environ,
    )
    print(environment.export_lines(values), end="")


@contextmanager
def alone(places: Folders) -> Iterator[None]:
    """One changing command at a time on one cache; a second waits, and says so."""
    places.cache.mkdir(parents=True, exist_ok=True)
    with places.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  another command works on the cluster: waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
