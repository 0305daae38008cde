"""The table of all models, made once and written by every form of the report.

Models are columns and metrics rows. A cell is the mean over seeds ± half the width of its 95 % interval, which is seed
noise. The noise of one evaluation (Monte-Carlo error, choice of test images, choice of labels) has rows of its own and is
given for the worst seed; the two are never mixed.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mpdvae.report.collect import Study, Variant
from mpdvae.report.metrics import (
    MEASURES,
    Metric,
    accuracy_metric,
    accuracy_metrics,
    counts,
    metric,
    over_seeds,
    values,
)
from mpdvae.report.numbers import MISSING, number, plural, with_interval
from mpdvae.report.schema import Referee

DENSITY = ["nll_nats", "negative_elbo_nats", "kl_nats", "reconstruction_nats", "bits_per_dim"]
CODE = ["mutual_information_nats", "active_units", "mpd_mean_nats", "mpd_std_nats", "diversity_share"]
NOISE = ["nll_monte_carlo_error_nats", "nll_standard_error_nats", "pareto_share"]
REFEREE = [
    "referee_annealed_nll_nats",
    "referee_weighted_nll_nats",
    "referee_simulated_nll_at_least_nats",
    "referee_simulated_weighted_nll_nats",
    "referee_simulated_nll_at_most_nats",
]
NOISE_TITLE = "Noise of one evaluation, worst seed"


@dataclass(frozen=True)
class Row:
    label: str
    unit: str
    cells: tuple[str, ...]

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Section:
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Cells are finished text: every form of the report prints the same characters."""

    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]


def table(study: Study) -> Table:
    """The table of one study."""
    sections = [
        Section("Density", _rows(study, [metric(name) for name in DENSITY])),
        Section("Likelihood judged by annealed importance sampling", _rows(study, [metric(name) for name in REFEREE])),
        Section("Code", _rows(study, [metric(name) for name in CODE])),
        Section("Representation: test accuracy", _rows(study, accuracy_metrics(study.runs))),
        Section(NOISE_TITLE, _noise_rows(study)),
    ]
    shown = tuple(section for section in sections if section.rows)
    return Table(tuple(variant.label for variant in study.variants), shown, tuple(_notes(study)))


def console_table(study: Study, width: int = 124) -> str:
    """The table for a terminal, in blocks of as many models as fit into `width`."""
    made = table(study)
    rows = [row for section in made.sections for row in section.rows if _is_short(section, row)]
    labels = [row.label if row.unit in ("", "nats") else row.title for row in rows]
    first = max(map(len, labels))
    cell = max(12, *(len(text) for row in rows for text in row.cells))
    blocks = []
    for columns in _blocks(len(made.columns), (width - first) // (cell + 2)):
        headings = [textwrap.wrap(label, cell, break_on_hyphens=True) for label in made.columns[columns]]
        height = max(map(len, headings))
        padded = [[""] * (height - len(heading)) + heading for heading in headings]
        lines = [_line("", [heading[i] for heading in padded], first, cell) for i in range(height)]
        lines.append("─" * len(lines[-1]))
        lines += [_line(label, row.cells[columns], first, cell) for label, row in zip(labels, rows, strict=True)]
        blocks.append("\n".join(lines))
    heading = (
        f"{study.setting.title}. {study.setting.protocol}; {study.setting.measured}. Without a unit: nats or shares."
    )
    return "\n\n".join([textwrap.fill(heading, width), *blocks, *(textwrap.fill(note, width) for note in made.notes)])


def _is_short(section: Section, row: Row) -> bool:
    """Whether a terminal shows the row: not the second unit of the likelihood, and one noise of evaluation only."""
    return row.label == metric(NOISE[0]).label if section.title == NOISE_TITLE else row.unit != "bits/dim"


def _blocks(count: int, most: int) -> list[slice]:
    """`count` columns in blocks of about equal size, none larger than `most`."""
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
    text = with_interval(over_seeds(variant, shown.name), shown.digits)
    have, all_seeds = len(values(variant, shown.name)), len(variant.seeds)
    if 0 < have < all_seeds:
        text += f" ({have} of {all_seeds} seeds)"
    if shown.name == "mutual_information_nats" and any(
        r.diagnostics.mutual_information_saturated for r in variant.runs
    ):
        text += " *"
    return text


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
        worst = [max(values(variant, shown.name).values(), default=None) for variant in study.variants]
        rows.append((shown.label, shown.unit, [number(value, shown.digits) for value in worst]))
    for measure, (_, noun) in MEASURES.items():
        found = counts(study.runs, measure)
        if found:
            over = "restarts" if noun == "K" else "subsets"
            label = f"{accuracy_metric(measure, found[-1]).label}: std of {over}"
            cells = [number(_worst_spread(variant, measure, found[-1]), 3) for variant in study.variants]
            rows.append((label, "", cells))
    return tuple(
        Row(label, unit, tuple(cells)) for label, unit, cells in rows if any(cell != MISSING for cell in cells)
    )


def _worst_spread(variant: Variant, measure: str, count: str) -> float | None:
    represented = [run.representation for run in variant.runs if run.representation is not None]
    found = [getattr(r, measure)[count].std for r in represented if count in getattr(r, measure)]
    return max((std for std in found if std is not None), default=None)


def _notes(study: Study) -> list[str]:
    seeds = sorted({seed for variant in study.variants for seed in variant.seeds})
    notes = []
    if any(len(variant.seeds) > 1 for variant in study.variants):
        notes.append(
            f"Mean ± half the width of the Student-t 95% interval over {plural(len(seeds), 'seed')} "
            f"({', '.join(map(str, seeds))}). "
            "Lower is better for NLL and negative ELBO, higher for accuracy."
        )
    single = [variant.label for variant in study.variants if len(variant.seeds) == 1]
    if single:
        notes.append(f"One seed only, hence no interval: {', '.join(single)}.")
    if any(run.diagnostics.mutual_information_saturated for run in study.runs):
        notes.append(
            f"* Saturated: an estimate from {plural(study.setting.diagnosed_images, 'image')} cannot exceed the logarithm of "
            "their number; the true mutual information may be far larger."
        )
    notes += sorted({_referee_note(run.density.referee) for run in study.runs if run.density.referee})
    notes += sorted({sentence for run in study.runs if run.representation for sentence in run.representation.left_out})
    return notes


def _referee_note(referee: Referee) -> str:
    return (
        f"Annealed importance sampling with {plural(referee.chains, 'chain')} of {plural(referee.steps, 'step')} on "
        f"{plural(referee.images, 'image')} of the split and as many simulated ones, for which reverse chains give the bound "
        "from below. An importance-weighted NLL above the annealed one, or above the bounds, says that the encoder misses "
        "codes."
    )
