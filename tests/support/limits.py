"""Limits of time and memory around a call that reads files from strangers."""

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

SECONDS = 5
"""Of computation, for one file or command."""
WAITED_SECONDS = 120
"""Of waiting: for a pipe, for the keyboard. Far longer than what it computes, also on a busy machine."""
MEMORY = 1 << 28
"""Bytes beyond what the tests have and the size of the input."""


class ExceededError(BaseException):
    """More than the limit. No handler of errors takes it for one of its own."""


class _NoInput:
    def __getattr__(self, name: str) -> NoReturn:
        raise ExceededError("reads the standard input")


@contextmanager
def bounds(memory: int = MEMORY, seconds: float = SECONDS) -> Iterator[None]:
    """Context with little time and memory, and without a standard input."""

    def stop(signal_number: int, _: object) -> NoReturn:
        waited = signal_number == signal.SIGALRM
        raise ExceededError("waits for something" if waited else f"computes for more than {seconds} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, stdin = resource.getrlimit(resource.RLIMIT_AS), sys.stdin
    former = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, before[1]))
    sys.stdin = _NoInput()
    signal.setitimer(signal.ITIMER_REAL, WAITED_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdin = stdin
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, handler in former.items():
            signal.signal(number, handler)


def start_counting_memory() -> None:
    """Sets the peak of this process's memory to its present size."""
    Path("/proc/self/clear_refs").write_text("5")


def memory_bytes(peak: bool) -> int:
    """Returns the memory of this process: now, or the most since `start_counting_memory`."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))
