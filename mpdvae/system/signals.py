"""Signals that ask a process to stop: SIGTERM, which systems and clusters send before they kill it, or SIGUSR1, which
clusters can be configured to send.

Inside `heeded`, the signal raises `Stopped` wherever the process is, as Ctrl-C raises `KeyboardInterrupt`: whatever is
being measured or written at that moment is lost, and everything written before is intact. Inside `deferred`, the signal is
only recorded, so that the current step is finished and a checkpoint saved. Afterwards the previous handlers are restored.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGUSR1")
"""SIGUSR1 does not exist on all systems."""


def numbers() -> list[signal.Signals]:
    """Returns those of the signals that exist on this system."""
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """This process was asked to stop; the message is the name of the signal."""


class Stop:
    """Records whether this process was asked to stop."""

    def __init__(self) -> None:
        self.asked_by = ""
        """Name of the signal; empty if there was none."""
        self._deferred = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defers signals within the context: a signal is recorded, and `Stopped` is raised when `check` is called."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raises `Stopped` if this process was asked to stop."""
        if self.asked_by:
            raise Stopped(self.asked_by)

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Handles the signals."""
        self.asked_by = signal.Signals(number).name
        if not self._deferred:
            self.check()


@contextmanager
def heeded() -> Iterator[Stop]:
    """Handles the signals within the context, in the main thread only: other threads receive no signals."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.signal(number, stop.note) for number in numbers()}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
