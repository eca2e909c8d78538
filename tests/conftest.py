"""What holds for all tests, wherever they run."""

from __future__ import annotations

import os
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
os.environ.pop("PYTHONUNBUFFERED", None)  # tasks on this machine would print in more pieces
