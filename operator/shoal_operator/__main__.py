"""`shoal-operator`: `run` (the default) is the operator, `cleanup` removes what it made.

Settings come from `SHOAL_OP_*` (settings.py). Exit codes: 0 after a signal, 1 when the Lease was
lost or something broke (the kubelet starts it again), 2 for settings that can't be used.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence

import uvloop

from .settings import Settings, SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="shoal-operator", description="The operator of Shoal.")
    parser.add_argument("verb", nargs="?", choices=("run", "cleanup"), default="run")
    arguments = parser.parse_args(argv)
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"shoal-operator: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        if arguments.verb == "cleanup":
            from .cleanup import clean_up

            asyncio.run(clean_up(settings))
        else:
            from .running import run

            # every warm call passes this loop a dozen times
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run(settings))
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        logging.getLogger(__name__).error("the operator stops: %s", error, exc_info=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
