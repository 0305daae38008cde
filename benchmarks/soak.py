"""A long run with a checkpoint every few seconds: do memory, open files and disk use stay where they are?

    python -m benchmarks soak --minutes 30     # prints a table and fills docs/reliability.md

One process trains the smallest recipe of MAE and is looked at after every evaluation point. The history gains a line at each,
by design, and is apart in the table. Growth is the slope of a straight line after the first tenth, in which torch and the
allocator take what they keep. Linux only: it reads /proc/self.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pages import DOCS, fill
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import recipe
from mpdvae.runs.run_folder import Run
from mpdvae.training.loop import train
from mpdvae.workflows.job import describe_run, load_data

PAGE = DOCS / "reliability.md"
ROWS = 7
WARM_UP = 0.1
"""Share of the time that counts for no slope."""


@dataclass(frozen=True)
class Look:
    """What the process and its folder hold at one time."""

    minutes: float
    step: int
    resident_megabytes: float
    open_files: int
    folder_kilobytes: float
    """Without the history."""
    history_kilobytes: float


class Over(Exception):
    """The time is over."""


def experiment(steps_between: int) -> Experiment:
    """A run that never ends by itself."""
    endless = {
        "training__plateau": None,
        "training__decay_per_step": 1.0,
        "training__least_learning_rate_fraction": 0.0,
    }
    sizes = {"training__steps": 10**9, "training__evaluate_every": steps_between, "training__validation_images": 50}
    return with_changes(recipe("mae-digits-smoke"), **endless | sizes)


def look(run: Run, minutes: float, step: int) -> Look:
    """The process and the run folder now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    sizes = {path.name: path.stat().st_size for path in run.path.rglob("*") if path.is_file()}
    history = sizes.pop("history.jsonl", 0)
    return Look(
        minutes=minutes,
        step=step,
        resident_megabytes=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        open_files=len(os.listdir("/proc/self/fd")),
        folder_kilobytes=sum(sizes.values()) / 2**10,
        history_kilobytes=history / 2**10,
    )


def soak(folder: Path, minutes: float, steps_between: int) -> list[Look]:
    """Trains for so long; one look for each checkpoint."""
    run = Run.create(folder, experiment(steps_between))
    data, looks, started = load_data(run.experiment), [], time.monotonic()
    describe_run(run, data, "python -m benchmarks soak")

    def watch(step: int, entry: dict[str, Any] | None) -> None:
        passed = (time.monotonic() - started) / 60
        if entry:
            looks.append(look(run, passed, step))
        if passed > minutes:
            raise Over

    try:
        train(run, data, watch)
    except Over:
        return looks
    raise AssertionError("the run ended by itself")


def table(looks: list[Look]) -> str:
    """Some looks, evenly spread, and how fast things grow, in Markdown."""
    head = "| minutes | steps | checkpoints written | memory (MB) | open files | folder (kB) | history (kB) |"
    lines = [head, "|---:|---:|---:|---:|---:|---:|---:|"]
    for i in np.linspace(0, len(looks) - 1, min(ROWS, len(looks))).round().astype(int):
        k = looks[i]
        cells = f"{k.minutes:.1f} | {k.step:,} | {i + 1:,} | {k.resident_megabytes:.1f} | {k.open_files}"
        lines.append(f"| {cells} | {k.folder_kilobytes:,.0f} | {k.history_kilobytes:,.0f} |")
    seconds = 60 * looks[-1].minutes / len(looks)
    growth = ", ".join(
        f"{what} {round(slope(looks, name), 1):g} {unit}".rstrip()
        for what, name, unit in (
            ("memory", "resident_megabytes", "MB"),
            ("open files", "open_files", ""),
            ("run folder without the history", "folder_kilobytes", "kB"),
            ("history", "history_kilobytes", "kB"),
        )
    )
    lines += [
        "",
        f"One checkpoint every {seconds:.1f} s. Growth per hour, excluding the first tenth of the run: {growth}.",
    ]
    return "\n".join(lines)


def slope(looks: list[Look], name: str) -> float:
    """Growth per hour."""
    settled = [k for k in looks if k.minutes > WARM_UP * looks[-1].minutes]
    return 60 * float(np.polyfit([k.minutes for k in settled], [getattr(k, name) for k in settled], 1)[0])


def main(arguments: Sequence[str]) -> None:
    """Prints the table and fills the page."""
    parser = argparse.ArgumentParser("python -m benchmarks soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps-between", type=int, default=25, help="steps between checkpoints")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose table is filled")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = table(soak(Path(folder) / "run", chosen.minutes, chosen.steps_between))
    print(measured)
    fill(chosen.page, soak=measured)
