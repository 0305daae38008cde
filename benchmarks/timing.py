"""Times two implementations of the same computation. They run in turn, so that drifting machine speed affects both; in one
process, or each in a process of its own if their effects on a process differ."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any


@dataclass(frozen=True)
class Pair:
    """Seconds taken by the plain method and by ours."""

    plain_seconds: float
    """Median seconds of the plain method."""
    seconds: float
    """Median seconds of our method."""
    ratio: float
    """Median of the ratios of consecutive runs."""
    plain_faults: int = 0
    """Median page faults of one run; counted if each method has a process of its own."""
    faults: int = 0
    """The same, of our method."""


def seconds_of(function: Callable[[], Any]) -> float:
    """Returns the wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def pair(plain: Callable[[], Any], ours: Callable[[], Any], rounds: int, times: int = 1) -> Pair:
    """Times both in turn, `rounds` times after one warm-up call each. `plain` does 1/`times` of the work of `ours`, so its
    time is multiplied by `times`."""
    plain(), ours()
    return _summary([(times * seconds_of(plain), seconds_of(ours)) for _ in range(rounds)])


def pair_apart(
    plain: Callable[[], Callable[[], Any]], ours: Callable[[], Callable[[], Any]], rounds: int, times: int = 1
) -> Pair:
    """Like `pair`, with each method in a process of its own, in which `plain()` or `ours()` is called once and returns the
    function to time."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, _prepare, (plain,)) as first, spawn.Pool(1, _prepare, (ours,)) as second:
        first.apply(_timed), second.apply(_timed)
        both = [(first.apply(_timed), second.apply(_timed)) for _ in range(rounds)]
    plain_faults, faults = (round(statistics.median(run[1] for run in runs)) for runs in zip(*both, strict=True))
    return replace(_summary([(times * p[0], o[0]) for p, o in both]), plain_faults=times * plain_faults, faults=faults)


_prepared: list[Callable[[], Any]] = []


def _prepare(make: Callable[[], Callable[[], Any]]) -> None:
    _prepared.append(make())
    _prepared[0]()  # warm-up: the first call compiles, and fills caches


def _timed() -> tuple[float, int]:
    """Returns the seconds and page faults of one call."""
    before = getrusage(RUSAGE_SELF).ru_minflt
    return seconds_of(_prepared[0]), getrusage(RUSAGE_SELF).ru_minflt - before


def _summary(both: list[tuple[float, float]]) -> Pair:
    plains, own = zip(*both, strict=True)
    return Pair(statistics.median(plains), statistics.median(own), statistics.median(p / o for p, o in both))


def peak_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the peak resident memory in bytes that a computation adds to a fresh process that has imported all it needs.

    `function(*arguments)` returns the computation to measure, as a function without arguments.
    """
    return apart(_grown_by, function, arguments)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of `function(*arguments)` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _grown_by(function: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> int:
    call = function(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _kilobytes("VmRSS")
    call()
    return 1024 * max(0, _kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    """Returns a value in kB from /proc/self/status (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    plain: str
    """Description of the plain method; empty if there is nothing to compare with."""
    ours: str
    ratio: float | None
    to_reach: str
    memory: str = ""
    """Peak memory beyond the model and the images: plain, ours."""
    check: str = ""
    """How equality was checked, and the outcome."""


@dataclass(frozen=True)
class Curve:
    """Growth of seconds or bytes with some quantity."""

    what: str
    by: str
    unit: str
    points: dict[str, float]


def shown(seconds: float) -> str:
    """Formats seconds with three digits, in ms, s or min."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 300 else f"{seconds / 60:.3g} min"


def shown_bytes(size: float) -> str:
    """Formats bytes in MB or GB."""
    return f"{size / 2**20:,.0f} MB" if size < 2**30 else f"{size / 2**30:.1f} GB"
