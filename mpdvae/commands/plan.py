"""What `mpdvae reproduce --dry-run` prints: the runs, their cost, and the power of the matrix."""

from pathlib import Path
from typing import TYPE_CHECKING

from mpdvae.experiments.experiment import Experiment
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpdvae.report.power import Key, Noise


def print_plan(experiments: list[Experiment], seeds: int | None, timed: bool, out: Path) -> None:
    """Prints cost and power of a matrix; a matrix in `out` that has begun is its own pilot."""
    _print_cost(experiments, seeds, timed)
    for dataset in dict.fromkeys(e.data.dataset for e in experiments):
        _print_power(next(e for e in experiments if e.data.dataset == dataset), seeds, out)


def _print_cost(experiments: list[Experiment], seeds: int | None, timed: bool) -> None:
    from mpdvae.experiments.recipes import seed_counts
    from mpdvae.report.published import stands_beside
    from mpdvae.workflows.matrix_cost import ASSUMED_RATE, plan
    from mpdvae.workflows.progress_display import busy, print_sentence, stdout, table_of

    counts = seed_counts(experiments, seeds)
    with busy("timing a step of each network on this machine" if timed else "counting the operations of each network"):
        plans = plan(experiments, timed)
    here = ("s / step", "hours / run") if timed else ()
    head = ("recipe", "parameters", "steps", *here, "GPU-hours / run", "compared with")
    table = table_of(*head)
    for p in plans:
        e = p.experiment
        hours = (f"{p.step_seconds:.2f}", f"{p.hours:,.1f}") if timed else ()
        beside = stands_beside(e.model, e.data.dataset, e.scale)
        numbers = f"{p.operations.parameters:,}", f"{p.steps:,}", *hours, _hours(p.gpu_hours)
        table.add_row(e.name, *numbers, beside)
    stdout().print(table)
    tell(f"{_counted(counts)}: {sum(counts)} runs. Finished runs are reused.")
    if timed:
        total = sum(count * (p.hours or 0) for count, p in zip(counts, plans, strict=True))
        tell(f"On this machine: about {_hours(total)} hours of training (estimated from timed steps).")
    gpu = sum(count * p.gpu_hours for count, p in zip(counts, plans, strict=True))
    rate = f"{ASSUMED_RATE / 1e12:g}e12 multiply-adds a second"
    print_sentence(
        f"On GPUs: about {_hours(gpu)} GPU-hours of training (estimated from an operation count and an assumed {rate})."
    )
    if not timed:
        tell("Add --timed to estimate the time on this machine.")


def _print_power(experiment: Experiment, seeds: int | None, out: Path) -> None:
    """Prints, for each condition of the claims on one data set, the power of the matrix and the seeds that it needs."""
    from mpdvae.experiments.recipes import seed_counts
    from mpdvae.report.metrics import metric
    from mpdvae.report.power import MOST_SEEDS, TARGET, plan
    from mpdvae.workflows.progress_display import plain, print_sentence, stdout, table_of

    dataset, scale = experiment.data.dataset, experiment.scale
    noises, origin = _pilot(experiment, out)
    count, images = seed_counts([experiment], seeds)[0], experiment.evaluation.density_images
    if not noises:
        print_sentence(
            f"Power on {dataset}: unknown, because there is no pilot at scale {scale}; train two seeds or more in {out}, and "
            "--dry-run prints what they show."
        )
        return
    planned = plan(noises, dataset, count, images or 10_000)
    head = ("claim", "condition", "smallest difference", "power", f"seeds for {TARGET:.0%}")
    table = table_of(*head)
    for p in planned:
        c, shown = p.condition, metric(p.condition.metric)
        needed = f"> {MOST_SEEDS}" if p.seeds_needed is None else str(p.seeds_needed)
        difference = f"{c.smallest:.3g} {shown.unit}".strip()
        table.add_row(
            *map(plain, [p.claim, f"{shown.label}: {c.left}, {c.right}", difference, f"{p.power:.0%}", needed])
        )
    where = f"{images:,} test images" if images else "all test images"
    tell("")
    print_sentence(
        f"Power on {dataset} with {_counted([count])} and {where}: the probability that a condition is confirmed if the "
        f"difference is the smallest that matters (for margins: if it is 0). Noise: {origin}.",
    )
    stdout().print(table)


def _pilot(experiment: Experiment, out: Path) -> "tuple[Mapping[Key, Noise], str]":
    """Returns the noise that the finished runs in `out` show, or else a pilot of the same scale, and where it is from."""
    from mpdvae.report.collect import collect, finished
    from mpdvae.report.pilots import PILOTS
    from mpdvae.report.power import noises_of

    dataset, scale = experiment.data.dataset, experiment.scale
    folders = finished(out / "runs")
    for study in collect(folders).studies if folders else ():
        if (study.setting.dataset, study.setting.scale) == (dataset, scale) and (noises := noises_of(study)):
            return noises, f"of the {len(study.runs)} finished runs in {out}"
    return PILOTS.get((dataset, scale), {}), "of a pilot (mpdvae/report/pilots.py)"


def _counted(counts: list[int]) -> str:
    numbers = sorted(set(counts))
    return f"{' or '.join(map(str, numbers))} seed{'s' if numbers != [1] else ''}"


def _hours(hours: float) -> str:
    return "< 0.01" if hours < 0.01 else f"{hours:,.2f}" if hours < 100 else f"{hours:,.0f}"
