"""Being asked to stop: by SIGTERM, as systems and clusters do before they kill, or by SIGUSR1, as clusters can be told to.

Inside `heeded` the signal raises `Stopped` wherever the process is, as Ctrl-C raises `KeyboardInterrupt`: what is measured or
written then is lost, what was written before is whole. While `deferred`, it is only noted, so that a step is brought to its
end and a checkpoint saved. Afterwards the handlers of before are back.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGUSR1")
"""The second one is not everywhere."""


def numbers() -> list[signal.Signals]:
    """The signals that there are here."""
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """This process was asked to stop; says by which signal."""


class Stop:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.asked_by = ""
        """Name of the signal; empty while nobody asked."""
        self._deferred = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal is noted, and raises `Stopped` where `check` is called."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raises `Stopped` where this process was asked to stop."""
        if self.asked_by:
            raise Stopped(self.asked_by)

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of the signals."""
        self.asked_by = signal.Signals(number).name
        if not self._deferred:
            self.check()


@contextmanager
def heeded() -> Iterator[Stop]:
    """Inside, the signals are heeded, as far as they can be: only a process's main thread hears them."""
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
