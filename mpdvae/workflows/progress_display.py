"""Progress display. On a terminal: a live panel for one run or a line for each of several, and an ETA; elsewhere: plain
lines."""

import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from mpdvae.errors import printable
from mpdvae.measures import collapse

PLAIN_SECONDS = 20
"""Seconds between progress lines without a terminal."""
BAR = 24
"""Width of the progress bar in characters."""
PIPED_COLUMNS = 120
"""Width of output that is not a terminal, unless the environment variable COLUMNS gives another."""
BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_NATS, MOST_NATS = 0.001, 10.0
"""Lower and upper end of the logarithmic scale of a sparkline."""
SPARKS = 64
"""Maximum number of units that a sparkline shows individually."""


@dataclass(frozen=True)
class RunProgress:
    """Progress of one run."""

    phase: str
    """"training", or the current part of the evaluation."""
    step: int
    steps: int
    latest: Mapping[str, Any] | None
    """The newest history entry."""

    def in_words(self) -> str:
        """The numbers and the verdict."""
        return self.in_numbers() + (f"  {said(self.latest)}" if self.latest else "")

    def in_numbers(self) -> str:
        words = f"step {self.step}/{self.steps}" if self.phase == "training" else self.phase
        if self.latest:
            words += (
                f"  -ELBO {self.latest['negative_elbo_nats']:z.1f}  KL {self.latest['kl_nats']:z.1f} nats  "
                f"active {self.latest['active_units']}/{self.latest['latent_dim']}"
            )
            words += "".join(f"  {number}" for number in (_information(self.latest), _lag(self.latest)) if number)
        return words


def said(entry: Mapping[str, Any]) -> str:
    """Returns the verdict of a history entry, with the step at which it became true if that was recorded."""
    step = entry.get("verdict_since_step")
    return entry["verdict"] if step is None else collapse.sentence(entry["verdict"], step)


def _first_words(entry: Mapping[str, Any]) -> str:
    return entry["verdict"].partition(":")[0]


def sparkline(nats: Sequence[float]) -> str:
    """Draws a bar per unit on a logarithmic scale from 0.001 to 10 nats; beyond `SPARKS` units, a bar per sorted group."""
    if len(nats) > SPARKS:
        ordered, size = sorted(nats, reverse=True), math.ceil(len(nats) / SPARKS)
        nats = [sum(group) / len(group) for i in range(0, len(ordered), size) if (group := ordered[i : i + size])]
    reach = math.log(MOST_NATS / LEAST_NATS)
    shares = (math.log(min(max(value, LEAST_NATS), MOST_NATS) / LEAST_NATS) / reach for value in nats)
    return "".join(BLOCKS[round(share * (len(BLOCKS) - 1))] for share in shares)


def stdout() -> Console:
    """Returns a console for standard output, which wraps what it prints. `print_line` keeps a line whole."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(file=sys.stdout, highlight=False, width=PIPED_COLUMNS if piped else None)


def columns() -> int:
    """Returns the width of tables that are laid out as text: that of the output, up to `PIPED_COLUMNS`."""
    return min(PIPED_COLUMNS, stdout().width)


def print_sentence(text: str, console: Console | None = None) -> None:
    """Prints a sentence wrapped to the width of the output, its further lines indented; long names stay whole."""
    made = console or stdout()
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    lines = textwrap.wrap(
        printable(text), made.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    print_line("\n".join(lines), made)


def table_of(*columns: str | Column) -> Table:
    """Returns a table without lines, whose first column holds names and is never cut."""
    made = Table(*columns, box=None, header_style="bold", pad_edge=False)
    made.columns[0].no_wrap = True
    return made


def print_line(text: str, console: Console | None = None) -> None:
    """Prints `text` without line breaks of its own, however long: lines of a log, to search, and commands, to copy."""
    (console or stdout()).print(plain(text), soft_wrap=True)


def plain(text: str, style: str = "") -> Text:
    """Returns `text` verbatim, with its line breaks: markup is not interpreted, and terminal control codes are escaped."""
    return Text("\n".join(map(printable, text.split("\n"))), style)


def duration(seconds: float) -> str:
    """Formats a duration: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


Follow = Callable[[int, Mapping[str, Any] | None], None]
"""Progress callback of training: called with the steps done and a new history entry, if there is one."""


class Watcher:
    """Shows the progress of several runs, as reported to `update`.

    Arguments:
        title: title of the display.
        started_share: fraction done before, in [0, 1]; the ETA counts only the work done since.
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
            print_line(self.title, self.console)
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def watch(self, title: str, share: float) -> None:
        """Reports that `share` of task `title` is done. A new title restarts the clock, with `share` as its start."""
        if title != self.title:
            self.title, self.started_share, self.started = title, share, time.monotonic()
        self.update(share, {})

    def say(self, line: str) -> None:
        """Prints a line that stays on display."""
        print_line(printable(line), self.console)

    def update(self, share: float, running: Mapping[str, RunProgress]) -> None:
        """Reports that `share` of everything is done, in [0, 1]; `running` is the progress of active runs, by name."""
        far = f"{share:4.0%}  {self._eta(share)}"
        if self.live:
            single = next(iter(running.values())) if len(running) == 1 else None
            shown = _lines(running) if single is None or single.latest is None else _panel(single, single.latest)
            self.live.update(Group(plain(self.title, "bold"), Text(f"{_bar(share)} {far}"), shown))
        elif time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            print_line(f"{self.title}  {far}", self.console)
            for name, progress in running.items():
                print_line(f"  {name}  {progress.in_numbers()}", self.console)

    def following(self, name: str, steps: int, latest: Mapping[str, Any] | None = None) -> Follow:
        """Returns a progress callback of training that prints a line of numbers at each evaluation point, the verdict where
        its first words change, and updates the display.

        Arguments:
            name: name of the run.
            steps: number of steps of the whole run.
            latest: newest history entry, if the run is resumed.
        """

        def follow(done: int, entry: Mapping[str, Any] | None) -> None:
            nonlocal latest
            before, latest = latest, entry or latest
            if entry:
                self.say(RunProgress("training", done, steps, entry).in_numbers())
                if before is None or _first_words(before) != _first_words(entry):
                    print_sentence(f"  {said(entry)}", self.console)
            self.update(done / steps, {name: RunProgress("training", done, steps, latest)})

        return follow

    def _eta(self, share: float) -> str:
        elapsed, done = time.monotonic() - self.started, share - self.started_share
        if done < 0.01:
            return f"{duration(elapsed)} so far"
        return f"{duration(elapsed)} so far, about {duration(elapsed / done * (1 - share))} to go"


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Shows the current activity, with a spinner on a terminal."""
    console = stdout()
    if console.is_terminal:
        with console.status(plain(what)):
            yield
    else:
        print_line(what, console)
        yield


def _bar(share: float) -> str:
    full = round(share * BAR)
    return "━" * full + "─" * (BAR - full)


def _lines(running: Mapping[str, RunProgress]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, progress in running.items():
        words = plain(progress.in_words())
        words.overflow, words.no_wrap = "ellipsis", True
        table.add_row(plain(f"  {name}", "bold"), words)
    return table


def _panel(progress: RunProgress, entry: Mapping[str, Any]) -> Panel:
    """Shows the newest evaluation point of one run. Rows whose values are missing, in entries of earlier versions, are left
    out."""
    table = Table.grid(padding=(0, 2))
    density = {"-ELBO": "negative_elbo_nats", "reconstruction": "reconstruction_nats", "KL": "kl_nats"}
    rows = {
        "nats": ", ".join(f"{name} {entry[key]:z.2f}" for name, key in density.items()),
        "per unit": sparkline(entry.get("information_per_dimension_nats") or ()),
        "code": ", ".join(filter(None, (_information(entry), _mpd(entry), _use(entry)))),
        "active": _sweep(entry),
        "gradients": "  ".join(f"{name} {norm:.2g}" for name, norm in (entry.get("gradient_norms") or {}).items()),
        "encoder": _lag(entry),
    }
    for name, words in rows.items():
        if words:
            table.add_row(plain(name, "dim"), plain(words))
    where = f"step {progress.step}/{progress.steps}" if progress.phase == "training" else progress.phase
    return Panel(
        Group(table, plain(said(entry), "bold")),
        title=plain(f"{where}, measured at step {entry['step']}"),
        title_align="left",
        border_style="dim",
    )


def _information(entry: Mapping[str, Any]) -> str:
    nats, ceiling = entry.get("mutual_information_nats"), entry.get("mutual_information_ceiling_nats")
    if nats is None or ceiling is None:
        return ""
    most = entry.get("mutual_information_upper_nats")
    return (
        f"MI at least {nats:z.2f} of {ceiling:z.2f}"
        if most is None
        else f"MI {nats:z.2f} (of {ceiling:z.2f}) to {most:z.2f}"
    )


def _mpd(entry: Mapping[str, Any]) -> str:
    return f"MPD {entry['mpd_mean_nats']:z.1f} ± {entry['mpd_std_nats']:z.1f}"


def _use(entry: Mapping[str, Any]) -> str:
    nats = entry.get("code_use_nats")
    return "" if nats is None else f"a wrong code costs {nats:z.1f}"


def _lag(entry: Mapping[str, Any]) -> str:
    lag = entry.get("encoder_lag")
    return "" if lag is None else f"lag {lag['gain_nats']:z.2f} ± {lag['gain_standard_error_nats']:z.2f}"


def _sweep(entry: Mapping[str, Any]) -> str:
    counts = entry.get("active_units_by_variance") or {}
    return ", ".join(f"{count} > {threshold}" for threshold, count in counts.items())
