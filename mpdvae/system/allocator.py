"""Keeps freed memory in the process instead of returning it to the system.

A training step frees and reallocates hundreds of megabytes, in blocks of ten to twenty megabytes; so does each chunk of an
evaluation. The C library of Linux (glibc) returns such blocks to the system, which must clear every page when they are
allocated again: tens of thousands of page faults per step, as counted by `benchmarks/speed.py`. Two settings of glibc
prevent this (mallopt(3)): blocks of any size come from the heap (M_MMAP_THRESHOLD), and free memory at the end of the heap
is kept (M_TRIM_THRESHOLD). The peak memory of the process does not change; it is held until the process ends.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1
"""Largest value that mallopt accepts, in bytes."""


def keep_freed_memory() -> bool:
    """Makes this process keep the memory it frees. Returns whether this succeeded; without glibc it has no effect."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(setting, NEVER) for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
