"""What the kernel says of this container's memory."""

from __future__ import annotations

import re

#: Where the count of processes killed for want of memory stands: cgroup v2, then v1.
_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def oom_kills() -> int:
    """Return how many processes of this container were killed because its memory was used up."""
    for path in _FILES:
        try:
            with open(path, encoding="ascii") as file:
                found = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found.group(1))
    return 0
