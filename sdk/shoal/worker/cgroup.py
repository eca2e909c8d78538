"""What the kernel says of this container's memory."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Where the memory is listed by its use, and the line of what programs asked for: v2, then v1.
_USES = (
    ("/sys/fs/cgroup/memory.stat", "anon"),
    ("/sys/fs/cgroup/memory/memory.stat", "total_rss"),
)
#: Where the count of processes killed for want of memory stands: v2, then v1.
_KILLS = (
    ("/sys/fs/cgroup/memory.events", "oom_kill"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
)


def memory_in_use() -> int:
    """Return what the programs of this container have in memory now, in bytes; 0 is unknown."""
    return _first(_USES)


def oom_kills() -> int:
    """Return how many processes of this container were killed because its memory was used up."""
    return _first(_KILLS)


def _first(lines: Iterable[tuple[str, str]]) -> int:
    """Return the number in the first line that there is, of those named as (file, name)."""
    for path, name in lines:
        try:
            with open(path, encoding="ascii") as file:
                found = re.search(rf"^{name} (\d+)$", file.read(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found.group(1))
    return 0
