"""Freed memory that stays with the process.

A training step frees and takes hundreds of megabytes again, in blocks of ten to twenty; so does each piece of an
evaluation. The C library of Linux (glibc) gives
such blocks back to the system, which has to clear every page of them when they are asked for once more: tens of thousands
of page faults a step, which `benchmarks/speed.py` counts. Two of its settings end that (mallopt(3)): blocks come from
the heap whatever their size (M_MMAP_THRESHOLD), and what is free at the heap's end is kept (M_TRIM_THRESHOLD). The most that
a process holds at a time stays as it is; it holds it until it ends.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1
"""The largest value that mallopt takes, in bytes."""


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees. Returns whether it could: elsewhere than with glibc nothing happens."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(setting, NEVER) for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
