"""How fast mpdvae is, against the plain methods of `plain.py`: a table, benchmarks/results.json, docs/performance.md.

    python -m benchmarks speed                          # everything, about 15 minutes on two cores
    python -m benchmarks speed --only sampling bound    # these are measured again, the others are kept

Both methods run in turn within one process, with the same weights, in float32; a ratio is the median over rounds. Where the
plain method takes minutes, one of its equal parts is timed (a pixel) and multiplied. Equality is checked first.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import pages
from benchmarks.likelihood import bound, divergence, precision
from benchmarks.likelihood_error import error
from benchmarks.pages import fill
from benchmarks.representation import representation
from benchmarks.sampling import flows, sampling
from benchmarks.timing import Curve, Row
from benchmarks.training import start_up, training
from mpdvae.system.atomic_files import read_json, write_atomically
from mpdvae.version import __version__

RESULTS = Path(__file__).with_name("results.json")
PAGE = pages.DOCS / "performance.md"
SECTIONS: dict[str, Callable[[], tuple[list[Row], list[Curve]]]] = {
    "sampling": sampling,
    "flows": flows,
    "bound": bound,
    "precision": precision,
    "likelihood error": error,
    "divergence": divergence,
    "representation": representation,
    "training": training,
    "start-up": start_up,
}
HEAD = ("benchmark", "plain", "ours", "ratio", "target", "memory", "check")


def main(arguments: Sequence[str]) -> None:
    """Measures, prints the table, and updates results.json and the page."""
    parser = argparse.ArgumentParser("python -m benchmarks speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)  # of processes that are started
    results = read_json(RESULTS) if RESULTS.exists() else {}
    for name in chosen.only:
        print(f"measuring: {name}", flush=True)
        rows, curves = SECTIONS[name]()
        results[name] = {
            "rows": [asdict(row) for row in rows],
            "growth": [asdict(curve) for curve in curves],
            "machine": machine(chosen.threads),
        }
        results = {key: results[key] for key in SECTIONS if key in results}
        write_atomically(RESULTS, json.dumps(results, indent=2) + "\n")
    console = Table(*HEAD, box=None, header_style="bold", pad_edge=False)
    for cells in table(results):
        console.add_row(*cells)
    Console(width=None if os.isatty(1) else 240).print(console)
    rewrite_page(results)


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "threads": threads,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "mpdvae": __version__,
    }


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of all rows."""
    cells = []
    for section in results.values():
        for row in section["rows"]:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:g}x"
            cells.append((row["what"], row["plain"], row["ours"], ratio, row["to_reach"], row["memory"], row["check"]))
    return cells


def growth(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of all growth curves."""
    cells = []
    for section in results.values():
        for curve in section["growth"]:
            points = ", ".join(f"{int(at):,}: {value:.3g}" for at, value in curve["points"].items())
            cells.append((curve["what"], curve["by"], points, curve["unit"]))
    return cells


def rewrite_page(results: dict[str, Any]) -> None:
    """Puts both tables and the machine into docs/performance.md."""
    made_on = "; ".join(
        dict.fromkeys(
            f"{m['threads']} threads of {m['cores']} {m['processor']} cores ({m['instructions']}), torch {m['torch']}"
            for m in (section["machine"] for section in results.values())
        )
    )
    fill(
        PAGE,
        table=pages.table(HEAD, table(results)),
        growth=pages.table(("benchmark", "as a function of", "measured", "unit"), growth(results)),
        machine=f"Measured on {made_on}.",
    )
