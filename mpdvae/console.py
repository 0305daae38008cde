"""What a person sees while something runs: a live line per run and an ETA on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 20
"""Without a terminal, how far everything is is said this often."""
BAR = 24
UNWRAPPED = 1000
"""Columns of what is no terminal."""


@dataclass(frozen=True)
class RunProgress:
    """How far one run is."""

    phase: str
    """training, or the part of the evaluation that it is at."""
    step: int
    steps: int
    latest: Mapping[str, Any] | None
    """The newest history entry."""

    def in_words(self) -> str:
        words = f"step {self.step}/{self.steps}" if self.phase == "training" else self.phase
        if self.latest:
            words += (
                f"  -ELBO {self.latest['negative_elbo_nats']:.1f}  KL {self.latest['kl_nats']:.1f} nats  "
                f"active {self.latest['active_units']}/{self.latest['latent_dim']}  {self.latest['verdict']}"
            )
        return words


def stdout() -> Console:
    """The terminal, or whatever standard output is: there nothing is wrapped, so that it can be searched."""
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, highlight=False, soft_wrap=not terminal, width=None if terminal else UNWRAPPED)


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Watcher:
    """Shows the progress of several runs, as `update` is told of it.

    Arguments:
        title: of the whole.
        started_share: what was done before, in [0, 1], so that the ETA counts only what is done now.
    """

    def __init__(self, title: str, started_share: float = 0.0) -> None:
        self.title, self.started_share = title, started_share
        self.started, self.said = time.monotonic(), time.monotonic()
        self.console = stdout()
        self.live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        )

    def __enter__(self) -> "Watcher":
        if self.live:
            self.live.start()
        else:
            self.console.print(self.title)
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def watch(self, title: str, share: float) -> None:
        """`share` of what is called `title` is done. The first time, it was done before, and the clock starts anew."""
        if title != self.title:
            self.title, self.started_share, self.started = title, share, time.monotonic()
        self.update(share, {})

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(Text(line))

    def update(self, share: float, running: Mapping[str, RunProgress]) -> None:
        """`share` of everything is done, in [0, 1]; `running` is how far each run under way is, by name."""
        head = f"{self.title}  {share:4.0%}  {self._eta(share)}"
        if self.live:
            self.live.update(Group(Text(f"{_bar(share)} {head}"), _lines(running)))
        elif time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            self.console.print(Text(head))
            for name, progress in running.items():
                self.console.print(Text(f"  {name}  {progress.in_words()}"))

    def _eta(self, share: float) -> str:
        elapsed, done = time.monotonic() - self.started, share - self.started_share
        if done < 0.01:
            return f"{duration(elapsed)} so far"
        return f"{duration(elapsed)} so far, about {duration(elapsed / done * (1 - share))} to go"


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Says what is being done, with a spinner on a terminal."""
    console = stdout()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(Text(what))
        yield


def _bar(share: float) -> str:
    full = round(share * BAR)
    return "━" * full + "─" * (BAR - full)


def _lines(running: Mapping[str, RunProgress]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, progress in running.items():
        table.add_row(Text(f"  {name}", style="bold"), Text(progress.in_words(), overflow="ellipsis", no_wrap=True))
    return table
