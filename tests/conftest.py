"""What holds for all tests, wherever they run."""

from __future__ import annotations

import os

os.environ.pop("PYTHONUNBUFFERED", None)  # tasks on this machine would print in more pieces
