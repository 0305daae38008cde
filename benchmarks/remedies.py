"""What each remedy against posterior collapse does at scale `minutes`, side by side.

    python -m benchmarks remedies --out runs/remedies --seeds 1     # trains what is missing, fills docs/remedies.md

Every recipe of `mpdvae.experiments.remedies`, the model that collapses, and MAE. One seed shows what a remedy does;
differences of a few tenths of a nat need more. Runs are named NAME-mnist-minutes-seedN and can be opened with `mpdvae
report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import pages
from mpdvae.experiments.experiment import with_changes
from mpdvae.experiments.recipes import COLLAPSING, recipe
from mpdvae.experiments.remedies import REMEDIES, as_options
from mpdvae.report.collect import Variant, collect
from mpdvae.report.metrics import over_seeds
from mpdvae.report.numbers import with_interval
from mpdvae.workflows.matrix import run_all
from mpdvae.workflows.matrix_jobs import Job, jobs

PAGE = pages.DOCS / "remedies.md"
STUDY = "mnist-minutes"
MODELS = [COLLAPSING, *REMEDIES, "mae"]
COLUMNS = {
    "KL": ("kl_nats", 2),
    "MI": ("mutual_information_nats", 2),
    "MPD": ("mpd_mean_nats", 1),
    "active": ("active_units", 0),
    "-ELBO": ("negative_elbo_nats", 2),
    "NLL": ("nll_nats", 2),
    "10-NN": ("knn10_accuracy/10000", 3),
}
"""Head of a column: name of the number, digits."""


def matrix(out: Path, seeds: int, models: list[str]) -> list[Job]:
    """The runs."""
    experiments = [with_changes(recipe(f"{model}-{STUDY}"), evaluation__pictures=False) for model in models]
    return jobs(experiments, seeds, out)


def options(model: str) -> str:
    """How the model differs from the one that collapses, as options of `mpdvae train`."""
    if model not in REMEDIES:
        return {COLLAPSING: "the model that collapses", "mae": "flow prior, diversity and smoothness"}[model]
    return f"`{' '.join(as_options(REMEDIES[model].changes(recipe(f'{COLLAPSING}-{STUDY}'))))}`"


def cells(variant: Variant) -> list[str]:
    """The numbers of one model: mean over seeds, with half the width of the 95 % interval where there are several."""
    return [with_interval(over_seeds(variant, name), digits) for name, digits in COLUMNS.values()]


def table(runs: list[Job]) -> str:
    """The table, in Markdown."""
    (study,) = collect([job.folder for job in runs]).studies
    by_model = {variant.model: variant for variant in study.variants}
    lines = [[model, options(model), *cells(by_model[model])] for model in MODELS if model in by_model]
    missing = [model for model in MODELS if model not in by_model]
    rows = pages.table(["recipe", "options", *COLUMNS], lines, numbers_from=2)
    return "\n".join([rows, *(["", f"Not measured yet: {', '.join(missing)}."] if missing else [])])


def main(arguments: Sequence[str]) -> None:
    """Trains what is missing and fills the page."""
    parser = argparse.ArgumentParser("python -m benchmarks remedies", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/remedies"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", nargs="*", choices=MODELS, default=MODELS, help="some of the models")
    chosen = parser.parse_args(arguments)
    runs = matrix(chosen.out, chosen.seeds, chosen.only)
    run_all(runs, None, chosen.jobs)
    pages.fill(PAGE, table=table(runs))
