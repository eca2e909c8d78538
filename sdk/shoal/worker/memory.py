"""How much memory a task attempt used at its peak.

The kernel keeps the high-water mark of a process; it is read after a task, and set back where the
task raised it, so that the next task is not charged with it.
"""

from __future__ import annotations

import os
import resource
import sys

from .cgroup import memory_in_use

#: A mark that rose by less than this, in KiB, stays: setting it back costs 10 us.
NOTICEABLE = 2 << 10

#: What `ru_maxrss` counts in, in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1 << 10


def mebibytes(maxrss: int) -> int:
    """Return `ru_maxrss` in MiB, rounded up."""
    return -(-maxrss * _UNIT >> 20)


class Peak:
    """The peaks of the tasks of this process, one after the other."""

    def __init__(self) -> None:
        """Begin with the first task; what its import uses is charged to it."""
        self._mark = self._children = 0
        self._can_reset = True
        self._at_failure = 0
        #: What a task is charged with that was too short to raise it noticeably, in MiB.
        self.of_short = 0

    def fails(self) -> None:
        """Note what the whole container uses while a task's exception still holds what it had.

        The worker's other processes share the container's memory with the task, so that it can
        lack memory before its own peak says so. Outside of a Pod nobody knows.
        """
        if "SHOAL_POD_UID" in os.environ:
            self._at_failure = memory_in_use() >> 20

    def measure(self) -> int:
        """Return the peak since the last measurement, in MiB; 0 is unknown."""
        at_failure, self._at_failure = self._at_failure, 0
        return max(at_failure, self._measure())

    def _measure(self) -> int:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # of processes that ended only the largest ever is known: a smaller one changes nothing
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        rose = own > self._mark or children > self._children
        peak = max(own, children) if children > self._children else own
        self._children = children
        if own - self._mark > NOTICEABLE and self._can_reset:
            own = self._reset(own)
        self._mark = own
        self.of_short = mebibytes(own) if self._can_reset else 0
        return mebibytes(peak) if rose or self._can_reset else 0

    def _reset(self, mark: int) -> int:
        """Set the high-water mark back to what is in use now; return the new one."""
        try:
            file = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, b"5")
            finally:
                os.close(file)
        except OSError:
            self._can_reset = False
            return mark
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
