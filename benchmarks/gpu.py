"""Correctness and speed on a GPU, within minutes: a table, benchmarks/gpu.json, and optionally a page.

    python -m benchmarks gpu                                    # everything, 8 minutes
    python -m benchmarks gpu --page docs/performance.md         # and puts the table into the page
    python -m benchmarks gpu --show --page docs/performance.md  # only that, from an earlier gpu.json
    python -m benchmarks gpu --device cpu --minutes 1 --recipe mae-digits-smoke     # a rehearsal without a GPU

Parts: results against the CPU; training step; likelihood; sampling; divergence; epochs on the recipe's data set. Each part
has its share of the minutes (`PARTS`), to which the time that earlier parts did not use is added. Measurements are made in
other processes (`gpu_parts.py`, tests/support/on_a_gpu.py): if one fails or takes too long, this is recorded in one line,
and the next one follows. Results are written after every measurement. Data are found or fetched by `mpdvae.data`; if they
are not available, the last part is skipped.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages import fill, table
from benchmarks.timing import shown, shown_bytes
from mpdvae.experiments import recipes
from mpdvae.system.atomic_files import read_json, write_atomically
from mpdvae.system.signals import heeded

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("gpu.json")
PARTS = {"correctness": 60, "training": 130, "likelihood": 25, "sampling": 15, "divergence": 10, "epochs": 240}
"""Share of the time of each part, in seconds of eight minutes."""
SHARE_OF_ONE = 0.6
"""Largest fraction of the remaining time of a part that a measurement may take if others follow."""
SAME_LOSS = 0.02
"""Largest relative difference of the loss from the float32, uncompiled one with which a variant may train."""
LEAST_SECONDS = 1.0
"""With less time a measurement is not begun."""
CLOSING_SECONDS = 1.0
"""Seconds kept for ending processes and writing results."""

MEASUREMENTS = {
    "training": [
        f"{precision}, {way}"
        for way in ("uncompiled", "graphed callables", "compiled", "reduce-overhead")
        for precision in ("float32", "bfloat16")
    ],
    "likelihood": ["memory budget 1 GiB", "memory budget 8 GiB", "memory budget 8 GiB, compiled"],
    "sampling": ["sampling"],
    "divergence": ["divergence"],
    "epochs": ["epochs"],
}
"""Measurements of the parts that `gpu_parts` makes."""

Found = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Measures, prints the table, and writes the results and, if one is given, the page."""
    parser = argparse.ArgumentParser("python -m benchmarks gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="device of torch (cuda)")
    parser.add_argument("--minutes", type=float, default=8.0, help="limit of the whole run (8)")
    parser.add_argument("--recipe", default="mae-mnist-paper", help="network, batch size and data (mae-mnist-paper)")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results (benchmarks/gpu.json)")
    parser.add_argument("--page", type=Path, help="page whose part <!-- gpu --> is replaced by the table")
    parser.add_argument("--show", action="store_true", help="measure nothing: print the table of --out")
    chosen = parser.parse_args(arguments)
    if chosen.show:
        report = read_json(chosen.out)
    else:
        recipes.recipe(chosen.recipe)  # an error if there is none
        with heeded():
            report = measure(chosen.device, chosen.minutes, chosen.recipe, chosen.only, chosen.out)
    text = f"{heading(report)}\n\n{table(('measurement', 'result', 'details'), rows(report))}"
    print(text)
    if chosen.page:
        fill(chosen.page, gpu=text)


def measure(device: str, minutes: float, recipe: str, parts: Sequence[str], out: Path) -> Found:
    """Runs the parts and writes what is known after every measurement; returns it all."""
    started = time.monotonic()
    ends = started + 60 * minutes - CLOSING_SECONDS
    with (
        tempfile.TemporaryDirectory(prefix="mpdvae-gpu-") as folder,
        Bench({"device": device, "recipe": recipe, "folder": folder}) as bench,
    ):
        (machine,) = bench.measurements("machine", ["machine"], ends)
        if "error" in machine:
            sys.exit(f"benchmarks gpu: --device: torch cannot use {device!r} here ({machine['error']}).")
        report: Found = {"device": device, "recipe": recipe, "minutes": minutes, "machine": machine, "parts": {}}
        for name in [part for part in PARTS if part in parts]:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            begun, to_come = time.monotonic(), [part for part in PARTS if part in parts and part not in report["parts"]]
            limit = (ends - begun) * PARTS[name] / sum(PARTS[part] for part in to_come)
            if name == "epochs":
                limit = min(limit, 30 * minutes)
            part: Found = {"limit_seconds": limit, "measurements": []}
            report["parts"][name] = part
            if name == "correctness":
                results = _checks(_comparison(device, folder), begun + limit)
            else:
                results = bench.measurements(name, MEASUREMENTS[name], begun + limit, **_known(report))
            for found in results:
                part["measurements"].append(found)
                part["seconds"] = time.monotonic() - begun
                _write(out, report)
            part["seconds"] = time.monotonic() - begun
            _write(out, report)
    report["seconds"] = time.monotonic() - started
    _write(out, report)
    return report


def _write(out: Path, report: Found) -> None:
    write_atomically(out, json.dumps(report, indent=2) + "\n")


def _comparison(device: str, folder: str) -> list[str]:
    """Returns the command that compares every part, and then tiny runs of recipes, with the CPU."""
    sweeps = {experiment.name for experiment in recipes.figure_matrix("rate-distortion", "smoke", ("digits",))}
    names = [name for name in recipes.all_recipes() if name.endswith("-digits-smoke") and name not in sweeps]
    return [sys.executable, "-W", "ignore", "tests/support/on_a_gpu.py", device, folder, *names]


def _known(report: Found) -> Found:
    """What later parts use of earlier ones: variants of the training step from the fastest on, and the decoder's rate."""
    steps = [m for m in report["parts"].get("training", {}).get("measurements", []) if "images_per_s" in m]
    usable = [m for m in steps if _loss_differs(m, steps) < SAME_LOSS]
    ways = [(m["precision"], m["way"], m["seconds_per_step"]) for m in sorted(usable, key=lambda m: -m["images_per_s"])]
    rates = report["parts"].get("likelihood", {}).get("measurements", [])
    return {"ways": ways, "evaluations_per_s": max((m.get("evaluations_per_s", 0) for m in rates), default=0) or None}


def _loss_differs(step: Found, steps: list[Found]) -> float:
    """Relative difference of the loss from that of the first variant that was measured."""
    return abs(step["loss_nats"] / steps[0]["loss_nats"] - 1)


# Processes


class Bench:
    """Makes measurements in a process of `gpu_parts`. After one that failed or took too long, another process takes over,
    which has been started before, because importing torch takes seconds.

    Arguments:
        task: fields of a `gpu_parts.Task` that all measurements share.
    """

    def __init__(self, task: Found) -> None:
        self._task = task
        self._child, self._spare = _child(), _child()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._spare.kill()

    def measurements(self, part: str, names: Sequence[str], until: float, **known: Any) -> Iterator[Found]:
        """Yields a result for each of the named measurements of a part, in order, or why there is none."""
        for done, name in enumerate(names):
            if not self._child.ready(until):
                yield {"name": name, "error": self._not_ready()}
                continue
            left = until - time.monotonic()
            seconds = left if done == len(names) - 1 else SHARE_OF_ONE * left
            if seconds < LEAST_SECONDS:
                yield {"name": name, "error": f"no time was left ({seconds:.1f} s)"}
            else:
                yield self._one(part, name, seconds, known)

    def _one(self, part: str, name: str, seconds: float, known: Found) -> Found:
        self._child.ask(self._task | {"part": part, "name": name, "seconds": seconds, "known": known})
        found = self._child.answer(time.monotonic() + seconds) or {"name": name, "error": self._child.why_none(seconds)}
        if self._child.late or self._child.ended or found.pop("spoilt", False):
            self._replace()
        return found

    def _not_ready(self) -> str:
        if not self._child.ended:
            return "no time was left after the start of a new process"
        why = self._child.why_none(0)
        self._replace()
        return why

    def _replace(self) -> None:
        self._child.kill()
        self._child, self._spare = self._spare, _child()


def _child() -> "Child":
    return Child([sys.executable, "-m", "benchmarks.gpu_parts"])


def _checks(command: list[str], until: float) -> Iterator[Found]:
    """Yields what the comparison with the CPU prints, and why it ended if it did not finish."""
    begun, child = time.monotonic(), Child(command)
    try:
        while found := child.answer(until):
            yield found
        if child.late or child.status():
            yield {"name": "further checks", "error": child.why_none(until - begun)}
    finally:
        child.kill()


class Child:
    """A process that reads and prints lines of JSON."""

    def __init__(self, command: list[str]) -> None:
        self.late = False
        """Whether it did not answer in time."""
        self.ended = False
        """Whether it closed its output."""
        self._ready = False
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed by `kill`)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Kills the process with all that it started, such as the workers of torch's compiler."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def ask(self, fields: Found) -> None:
        """Writes a line; a process that has ended does not get it, and will not answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(fields), file=self._process.stdin, flush=True)

    def ready(self, until: float) -> bool:
        """Waits until the process has printed its first line."""
        if not self._ready:
            self._ready = self.answer(until) is not None
            self.late = False  # it may be later
        return self._ready

    def answer(self, until: float) -> Found | None:
        """Returns the next line; None if the process ends or says nothing in time."""
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            self.late = True
            return None
        self.ended = not line
        return json.loads(line) if line else None

    def status(self) -> int:
        """Waits for the end of a process that has closed its output; returns the exit status."""
        return self._process.wait()

    def why_none(self, seconds: float) -> str:
        """Returns in one line why there was no answer."""
        if self.late:
            return f"not finished within {seconds:.0f} s"
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["no message"])[-1].strip()
        return f"the process ended with status {self.status()}: {last[:300]}"


# The table


def heading(report: Found) -> str:
    """Names the device and the versions."""
    m = report["machine"]
    device = (
        f"{m['gpu']} ({shown_bytes(m['memory_bytes'])})" if "gpu" in m else f"device `{report['device']}`, not a GPU"
    )
    versions = f"torch {m['torch']}, CUDA {m['cuda'] or 'none'}, mpdvae {m['mpdvae']}"
    return f"Measured on {device}, {versions}; networks and batch of recipe `{report['recipe']}`."


def rows(report: Found) -> list[tuple[str, str, str]]:
    """The cells of the table."""
    found = []
    for name, part in report["parts"].items():
        if name == "correctness":
            found.append(_correctness_row(part["measurements"]))
            continue
        for m in part["measurements"]:
            label = m["name"] if m["name"] == name else f"{name}: {m['name']}"
            if "error" in m:
                cells = (label, "failed", m["error"])
            elif "skipped" in m:
                cells = (label, "skipped", m["skipped"])
            else:
                cells = (label, *CELLS[name](m, part["measurements"]))
            found.append(cells)
    return [(a, b, c.replace("|", "/").replace("\n", " ")) for a, b, c in found]


def _correctness_row(checks: list[Found]) -> tuple[str, str, str]:
    whole = [check for check in checks if "agrees" in check]
    details = []
    if compared := [check for check in whole if "difference" in check]:
        largest = max(compared, key=lambda check: check["difference"])
        details.append(f"largest difference {largest['difference']:.0e} ({largest['name']})")
    if tf32 := [check["difference_with_tf32"] for check in whole if "difference_with_tf32" in check]:
        details.append(f"with TF32 {max(tf32):.0e}")
    if drawn := sum(check.get("drawn", 0) for check in whole):
        different = sum(check.get("drawn_otherwise", 0) for check in whole)
        details.append(f"{different:,} of {drawn:,} drawn pixels differ")
    for check in checks:
        if not check.get("agrees"):
            details.append(f"{check['name']}: {check.get('error') or 'differs by {:.0e}'.format(check['difference'])}")
    runs = sum(check["name"].startswith("run ") for check in whole)
    agree = f"{sum(check['agrees'] for check in whole)} of {len(whole)} checks agree" if whole else "failed"
    return f"results against the CPU ({len(whole) - runs} parts, {runs} tiny runs)", agree, "; ".join(details)


def _memory(m: Found) -> list[str]:
    if "peak_bytes" not in m:
        return []
    return [f"peak {shown_bytes(m['peak_bytes'])}, held {shown_bytes(m['held_bytes'])}"]


def _training_cells(m: Found, others: list[Found]) -> tuple[str, str]:
    steps = [step for step in others if "images_per_s" in step]
    details = [f"{shown(m['seconds_per_step'])} per step of {m['batch']}", *_memory(m)]
    details += [f"first step {shown(m['first_step_seconds'])}", f"loss differs by {_loss_differs(m, steps):.0e}"]
    return f"{m['images_per_s']:,.0f} images/s", "; ".join(details)


def _likelihood_cells(m: Found, others: list[Found]) -> tuple[str, str]:
    details = [f"{m['images']} images x {m['samples']} samples in {shown(m['seconds'])}", *_memory(m)]
    return f"{m['evaluations_per_s']:,.0f} decoder evaluations/s", "; ".join(details)


def _sampling_cells(m: Found, others: list[Found]) -> tuple[str, str]:
    return f"{m['images_per_s']:,.1f} images/s", "; ".join(
        [f"{m['images']} images in {shown(m['seconds'])}", *_memory(m)]
    )


def _divergence_cells(m: Found, others: list[Found]) -> tuple[str, str]:
    details = [f"all pairs of {m['posteriors']:,} posteriors in {m['dimensions']} dimensions", *_memory(m)]
    return shown(m["seconds"]), "; ".join(details)


def _epochs_cells(m: Found, others: list[Found]) -> tuple[str, str]:
    nll = m["nll_nats"]
    error = "" if nll["standard_error"] is None else f" +- {nll['standard_error']:.2f}"
    details = [
        f"{m['images']} test images x {m['samples']} samples, after {m['epochs']:.1f} epochs ({m['variant']}) in "
        f"{shown(m['training_seconds'])}, {m['images_per_s']:,.0f} images/s",
        m["data"],
        *(f"failed: {failure}" for failure in m["failed_variants"]),
    ]
    return f"NLL {nll['mean']:.2f}{error} nats", "; ".join(details)


CELLS: dict[str, Callable[[Found, list[Found]], tuple[str, str]]] = {
    "training": _training_cells,
    "likelihood": _likelihood_cells,
    "sampling": _sampling_cells,
    "divergence": _divergence_cells,
    "epochs": _epochs_cells,
}
