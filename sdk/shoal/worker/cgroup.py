"""What the kernel says of this container's memory."""

from __future__ import annotations

import re

#: Where the memory is listed by its use, and the line of what programs asked for: v2, then v1.
_USES = (
    ("/sys/fs/cgroup/memory.stat", "anon"),
    ("/sys/fs/cgroup/memory/memory.stat", "total_rss"),
)
#: Where the count of processes killed for want of memory stands: cgroup v2, then v1.
_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def memory_in_use() -> int:
    """Return what the programs of this container have in memory now, in bytes; 0 is unknown."""
    for path, name in _USES:
        try:
            with open(path, encoding="ascii") as file:
                found = re.search(rf"^{name} (\d+)$", file.read(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found.group(1))
    return 0


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
