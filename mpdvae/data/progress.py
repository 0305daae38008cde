"""Progress callbacks for fetching data: silent, plain lines, or a progress bar on a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mpdvae.errors import printable
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 5


class Listener:
    """Receives progress reports; this base class ignores them."""

    def say(self, line: str) -> None:
        """Reports a line that stays on display."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Reports that `done` of `total` bytes of the file `name` have arrived; `total` is None if the server does not
        report it."""


SILENT = Listener()


class Lines(Listener):
    """Prints plain lines, at most one every few seconds while a file is being downloaded."""

    def __init__(self, show: Callable[[str], object] = tell, every_seconds: float = _LINE_SECONDS) -> None:
        self.show, self.every_seconds, self.said = show, every_seconds, time.monotonic()

    def say(self, line: str) -> None:
        self.show(line)
        self.said = time.monotonic()

    def progress(self, name: str, done: int, total: int | None) -> None:
        if time.monotonic() - self.said >= self.every_seconds:
            share = f" of {megabytes(total)} ({done / total:.0%})" if total else ""
            self.say(f"  {name}: {megabytes(done)}{share}")


class Bar(Listener):
    """Shows a progress bar with speed and remaining time for each file, on a terminal."""

    def __init__(self, bar: "Progress") -> None:
        self.bar = bar
        self.tasks: dict[str, TaskID] = {}

    def say(self, line: str) -> None:
        self.bar.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def progress(self, name: str, done: int, total: int | None) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(name, total=total)
        self.bar.update(self.tasks[name], completed=done, total=total)


@contextmanager
def shown() -> Iterator[Listener]:
    """Yields a listener that writes to standard output: a progress bar on a terminal, plain lines otherwise."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    from rich import progress as rich  # needed only here

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.DownloadColumn())
    with rich.Progress(*columns, rich.TransferSpeedColumn(), rich.TimeRemainingColumn(), transient=True) as bar:
        yield Bar(bar)


def megabytes(count: int) -> str:
    """Formats a number of bytes for display: 0.4 MB, 170 MB."""
    return f"{count / 1e6:.1f} MB" if count < 1e7 else f"{count / 1e6:.0f} MB"


def file_name(address: str) -> str:
    """Returns the last part of a URL, without its query."""
    return Path(address.partition("?")[0]).name
