"""Timing two ways of doing one thing: in turn, so that a machine whose speed drifts slows both; in one process, or each in
its own where they differ in what they do to a process."""

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
    """Seconds of the plain method and of ours."""

    plain_seconds: float
    """Median."""
    seconds: float
    """Median."""
    ratio: float
    """Median of the ratios of consecutive runs."""
    plain_faults: int = 0
    """Page faults of one run, a median; counted where each has a process of its own."""
    faults: int = 0


def seconds_of(function: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def pair(plain: Callable[[], Any], ours: Callable[[], Any], rounds: int, times: int = 1) -> Pair:
    """Both in turn, `rounds` times after one call of each that is not counted. `plain` does one part in `times` of what
    `ours` does, and its time is multiplied by it."""
    plain(), ours()
    return _summary([(times * seconds_of(plain), seconds_of(ours)) for _ in range(rounds)])


def pair_apart(
    plain: Callable[[], Callable[[], Any]], ours: Callable[[], Callable[[], Any]], rounds: int, times: int = 1
) -> Pair:
    """As `pair`, each in a process of its own that keeps what it made: `plain()` and `ours()` return what is timed."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, _prepare, (plain,)) as first, spawn.Pool(1, _prepare, (ours,)) as second:
        first.apply(_timed), second.apply(_timed)
        both = [(first.apply(_timed), second.apply(_timed)) for _ in range(rounds)]
    plain_faults, faults = (round(statistics.median(run[1] for run in runs)) for runs in zip(*both, strict=True))
    return replace(_summary([(times * p[0], o[0]) for p, o in both]), plain_faults=times * plain_faults, faults=faults)


_prepared: list[Callable[[], Any]] = []


def _prepare(make: Callable[[], Callable[[], Any]]) -> None:
    _prepared.append(make())
    _prepared[0]()  # what is compiled, and filled, by the first call


def _timed() -> tuple[float, int]:
    """Seconds and page faults of a call."""
    before = getrusage(RUSAGE_SELF).ru_minflt
    return seconds_of(_prepared[0]), getrusage(RUSAGE_SELF).ru_minflt - before


def _summary(both: list[tuple[float, float]]) -> Pair:
    plains, own = zip(*both, strict=True)
    return Pair(statistics.median(plains), statistics.median(own), statistics.median(p / o for p, o in both))


def peak_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Most resident memory that `function(*arguments)` adds to a process of its own, which has imported all that it needs:
    `function` returns what is to be measured as a function without arguments."""
    return apart(_grown_by, function, arguments)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _grown_by(function: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> int:
    call = function(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _kilobytes("VmRSS")
    call()
    return 1024 * max(0, _kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    """A figure of /proc/self/status (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    plain: str
    """The plain method, in words; empty where there is nothing to compare with."""
    ours: str
    ratio: float | None
    to_reach: str
    memory: str = ""
    """Peak beyond the model and the images: plain, ours."""
    check: str = ""
    """How equality was checked, and what came out."""


@dataclass(frozen=True)
class Curve:
    """How seconds or bytes grow with something."""

    what: str
    by: str
    unit: str
    points: dict[str, float]


def shown(seconds: float) -> str:
    """Seconds with three digits, in s, ms or minutes."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 300 else f"{seconds / 60:.3g} min"


def shown_bytes(size: float) -> str:
    """Bytes in MB or GB."""
    return f"{size / 2**20:,.0f} MB" if size < 2**30 else f"{size / 2**30:.1f} GB"
