"""The tables of a study, built once and used by every output format of the report.

Models are columns and metrics are rows, unless there are too many models (`grid`). A cell is the mean over seeds ± half
the width of its 95 % interval, which is seed noise. The noise of a single evaluation (Monte-Carlo error, choice of test
images) has separate rows and is given for the worst seed; the two are never mixed. Representation scores, with their
baselines and noise, have a separate table.
"""

import math
import textwrap
from collections.abc import Sequence

from mpdvae.report.collect import Study, Variant
from mpdvae.report.grid import Row, Section, Table, cell, fitted
from mpdvae.report.metrics import Metric, metric, values
from mpdvae.report.numbers import MISSING, number, plural
from mpdvae.report.schema import Referee
from mpdvae.report.scores import NOISE_TITLE as SCORE_NOISE_TITLE
from mpdvae.report.scores import score_table

DENSITY = ["nll_nats", "negative_elbo_nats", "kl_nats", "reconstruction_nats", "bits_per_dim"]
CODE = ["mutual_information_nats", "mutual_information_upper_nats", "active_units", "mpd_mean_nats", "mpd_std_nats"]
CODE += ["diversity_share", "total_correlation_nats", "aggregate_kl_nats", "dimension_wise_kl_nats"]
REFEREE = [
    "referee_annealed_nll_nats",
    "referee_weighted_nll_nats",
    "referee_simulated_nll_at_least_nats",
    "referee_simulated_weighted_nll_nats",
    "referee_simulated_nll_at_most_nats",
]
FACTORS = ["mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap", "modularity", "explicitness"]
USE = ["another_code_nats", "prior_code_nats", "mean_code_nats", "used_dimensions"]
NOISE = ["nll_monte_carlo_error_nats", "nll_standard_error_nats", "pareto_share", "identity_residual"]
NOISE_TITLE = "Noise of a single evaluation, worst seed"
SHORT_MEASURES = ["knn10_accuracy", "linear_accuracy", "rbf_svm_accuracy", "kmeans_accuracy"]
"""Scores shown in a terminal."""


def table(study: Study) -> Table:
    """Returns the main table of one study."""
    sections = [
        Section("Density", _rows(study, [metric(name) for name in DENSITY])),
        Section("Likelihood check by annealed importance sampling", _rows(study, [metric(name) for name in REFEREE])),
        Section("Code", _rows(study, [metric(name) for name in CODE])),
        Section("Disentanglement: units and factors of variation", _rows(study, [metric(name) for name in FACTORS])),
        Section(
            "Use of the code by the decoder: distortion relative to the image's own code",
            _rows(study, [metric(n) for n in USE]),
            folded=True,
        ),
        Section(NOISE_TITLE, _noise_rows(study), folded=True),
    ]
    shown = tuple(section for section in sections if section.rows)
    return Table("All models", tuple(variant.label for variant in study.variants), shown, tuple(_notes(study)))


def tables(study: Study) -> list[Table]:
    """Returns all tables of one study, as a page shows them."""
    return [fitted(table(study)), fitted(score_table(study))]


def console_table(study: Study, width: int = 124) -> str:
    """Returns the tables as text for a terminal, in blocks of as many models as fit into `width`."""
    setting = study.setting
    heading = (
        f"{setting.title}. {setting.protocol}; {setting.measured}. Rows without a unit are in nats or are fractions."
    )
    made = [table(study), score_table(study, SHORT_MEASURES)]
    return "\n\n".join([textwrap.fill(heading, width), *(part for one in made for part in _in_blocks(one, width))])


def _in_blocks(made: Table, width: int) -> list[str]:
    rows = [row for section in made.sections for row in section.rows if _is_short(section, row)]
    labels = [row.label if row.unit in ("", "nats") else row.title for row in rows]
    notes = [textwrap.fill(note, width) for note in made.notes]
    if not rows:
        return notes
    first = max(map(len, labels))
    widest = max(12, *(len(text) for row in rows for text in row.cells))
    blocks = []
    for columns in _blocks(len(made.columns), (width - first) // (widest + 2)):
        headings = [textwrap.wrap(label, widest, break_on_hyphens=True) for label in made.columns[columns]]
        height = max(map(len, headings))
        padded = [[""] * (height - len(heading)) + heading for heading in headings]
        lines = [_line("", [heading[i] for heading in padded], first, widest) for i in range(height)]
        lines.append("─" * len(lines[-1]))
        lines += [_line(label, row.cells[columns], first, widest) for label, row in zip(labels, rows, strict=True)]
        blocks.append("\n".join(lines))
    return [*blocks, *notes]


def _is_short(section: Section, row: Row) -> bool:
    """Whether a terminal shows the row: likelihoods in one unit only, and one row of evaluation noise only."""
    if section.title in (NOISE_TITLE, SCORE_NOISE_TITLE):
        return row.label == metric(NOISE[0]).label
    return row.unit != "bits/dim"


def _blocks(count: int, most: int) -> list[slice]:
    """Splits `count` columns into blocks of about equal size, none larger than `most`."""
    blocks = math.ceil(count / max(1, most))
    size = math.ceil(count / blocks)
    return [slice(start, start + size) for start in range(0, count, size)]


def _line(label: str, cells: Sequence[str], first: int, cell: int) -> str:
    return label.ljust(first) + "".join("  " + text.rjust(cell) for text in cells)


def _rows(study: Study, metrics: Sequence[Metric]) -> tuple[Row, ...]:
    rows = []
    for shown in metrics:
        cells = tuple(_cell(variant, shown) for variant in study.variants)
        if any(cell != MISSING for cell in cells):
            rows.append(Row(_label(study, shown), shown.unit, cells))
    return tuple(rows)


def _cell(variant: Variant, shown: Metric) -> str:
    saturated = any(run.diagnostics.mutual_information_saturated for run in variant.runs)
    return cell(variant, shown) + (" *" if shown.name == "mutual_information_nats" and saturated else "")


def _label(study: Study, shown: Metric) -> str:
    if shown.name == "mutual_information_nats":
        ceiling = study.runs[0].diagnostics.mutual_information_ceiling_nats
        return f"{shown.label}, at most {number(ceiling, 2)}"
    if shown.name == "active_units":
        units = sorted({run.diagnostics.latent_dim for run in study.runs})
        return f"{shown.label} of {' or '.join(map(str, units))}"
    return shown.label


def _noise_rows(study: Study) -> tuple[Row, ...]:
    rows = []
    for shown in map(metric, NOISE):
        worst = [max(values(variant, shown.name).values(), key=abs, default=None) for variant in study.variants]
        rows.append(Row(shown.label, shown.unit, tuple(number(value, shown.digits) for value in worst)))
    return tuple(row for row in rows if set(row.cells) != {MISSING})


def _notes(study: Study) -> list[str]:
    seeds = sorted({seed for variant in study.variants for seed in variant.seeds})
    notes = []
    if any(len(variant.seeds) > 1 for variant in study.variants):
        notes.append(
            f"Mean ± half the width of the Student-t 95% interval over {plural(len(seeds), 'seed')} "
            f"({', '.join(map(str, seeds))}). These intervals cover the seeds, not the choice of the test images, which all "
            "models share; the intervals of differences, at the claims, cover both. "
            "Lower is better for NLL and negative ELBO, higher for accuracy."
        )
    single = [variant.label for variant in study.variants if len(variant.seeds) == 1]
    if single:
        notes.append(f"One seed only, therefore no interval: {', '.join(single)}.")
    if any(run.diagnostics.mutual_information_saturated for run in study.runs):
        notes.append(
            f"* Saturated: a lower bound from {plural(study.setting.diagnosed_images, 'image')} cannot exceed the logarithm "
            "of their number; the true mutual information may be as large as the upper bound next to it."
        )
    if any(run.information for run in study.runs):
        notes.append(
            "Both bounds on the mutual information are from the same draws; the upper one is the smallest of three without a "
            "ceiling. If the lower bound is saturated, the total correlation and the KL of the aggregate posterior are too "
            "large by the amount that it is too small."
        )
    notes += sorted({_referee_note(run.density.referee) for run in study.runs if run.density.referee})
    return notes


def _referee_note(referee: Referee) -> str:
    return (
        f"Annealed importance sampling with {plural(referee.chains, 'chain')} of {plural(referee.steps, 'step')} on "
        f"{plural(referee.images, 'image')} of the split and as many simulated images, for which reverse chains give the "
        "lower bound. If the importance-weighted NLL is above the annealed one, or above the bounds, the encoder misses "
        "codes."
    )
