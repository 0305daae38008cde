"""How codes developed during training and whether they collapsed: curves, active units over thresholds, verdicts.

Runs of earlier versions recorded fewer numbers: missing ones are left out of curves and shown as a dash in the table.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpdvae.measures import collapse
from mpdvae.measures.intervals import estimate
from mpdvae.report.collect import Run, Study, Variant
from mpdvae.report.figures import STEP_AXIS, Chart, Styles, curves, make_chart, make_line, make_panel
from mpdvae.report.numbers import MISSING, plural, with_interval

CURVES = (
    ("information_nats", "Information, all dimensions", "nats", "linear"),
    ("mutual_information_nats", "Mutual information, lower bound", "nats", "linear"),
    ("encoder_lag_nats", "Encoder lag", "nats", "linear"),
    ("pull_ratio", "Gradient norm: reconstruction over the strongest other term", "ratio", "log"),
    ("code_use_nats", "Cost of a wrong code to the decoder", "nats", "log"),
)
"""Numbers of an evaluation point, with title, unit and type of axis."""
HEADING = (
    "model",
    "verdict, validation images",
    "since step",
    "encoder lag (nats)",
    "cost of a wrong code (nats)",
    "gradient ratio",
)
CAPTION = (
    "At the end of training, over seeds. Verdicts judge the information of the whole code, what the decoder loses without "
    "it, then its units; each run's sentence is at the end of this page. Encoder lag: gain in ELBO from ten gradient steps "
    "on the posteriors of some test images. Cost of a wrong code: what the decoder loses with another image's code. Gradient "
    "ratio: how strongly the reconstruction pulls an image's posterior, relative to the strongest other term of the loss."
)


@dataclass(frozen=True)
class Fate:
    """One row of the table: the collapse diagnoses of one model, as formatted text."""

    model: str
    verdict: str
    """The verdict of all seeds, or each verdict with its number of seeds, the most frequent first."""
    since: str
    """The step from which the verdict holds; with several seeds the range, and a dash if no run noted it."""
    lag: str
    code_use: str
    pull: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells, in the order of `HEADING`."""
        return self.model, self.verdict, self.since, self.lag, self.code_use, self.pull


def fates(study: Study) -> tuple[Fate, ...]:
    """Returns a row for each model."""
    return tuple(_fate(variant) for variant in study.variants)


def verdict_of(run: Run) -> str:
    """Returns the collapse verdict of one run, as a sentence."""
    if not run.history or not run.history[-1].verdict:
        return collapse.sentence(run.diagnostics.verdict, None)
    last = run.history[-1]
    return collapse.sentence(last.verdict, last.verdict_since_step, last.verdict_since_step == run.history[0].step)


def development(study: Study, styles: Styles) -> Chart | None:
    """Returns curves over training steps, and active units over thresholds at the end of training."""
    panels = []
    for name, title, unit, kind in CURVES:
        traces = [trace for v in study.variants for trace in curves(v, name, styles[v.label])]
        if kind == "log":  # a logarithmic axis shows positive values only
            traces = [trace for trace in map(_positive, traces) if trace["x"]]
        if traces:
            axes = {"xaxis": STEP_AXIS, "yaxis": {"title": {"text": unit}, "type": kind}}
            panels.append(make_panel(title, traces, axes, 260))
    sweep = [trace for v in study.variants if (trace := _sweep(v, styles[v.label])) is not None]
    if sweep:
        axes = {
            "xaxis": {"title": {"text": "variance of the posterior mean above"}, "type": "log", "tickformat": "~g"},
            "yaxis": {"title": {"text": "active units"}, "rangemode": "tozero"},
        }
        panels.append(make_panel("Active units over thresholds, test images", sweep, axes, 260))
    caption = (
        "On validation images, with averaged weights. Thin: one seed; bold: mean over seeds. If the gradient ratio is "
        "below 1, the KL or a regulariser pulls posteriors harder than the reconstruction does."
    )
    return make_chart("development", "Codes during training", caption, styles, panels)


def _fate(variant: Variant) -> Fate:
    found = [run.diagnostics for run in variant.runs]
    lag, use, pull = (
        [value for value in numbers if value is not None]
        for numbers in (
            [d.encoder_lag.gain_nats for d in found],
            [d.code_use_nats for d in found],
            [d.pull_ratio for d in found],
        )
    )
    return Fate(variant.label, _words(variant), _since(variant), *map(_over_seeds, (lag, use, pull)))


def _over_seeds(numbers: Sequence[float]) -> str:
    return with_interval(estimate(numbers) if numbers else None, 2)


def _words(variant: Variant) -> str:
    """Returns the verdicts without their details."""
    verdicts = [run.history[-1].verdict if run.history else "" for run in variant.runs]
    own = [verdict or run.diagnostics.verdict for verdict, run in zip(verdicts, variant.runs, strict=True)]
    counted = Counter(verdict.split(":")[0] for verdict in own)
    if len(counted) == 1:
        return next(iter(counted))
    return ", ".join(f"{word} ({plural(count, 'seed')})" for word, count in counted.most_common())


def _since(variant: Variant) -> str:
    steps = [run.history[-1].verdict_since_step for run in variant.runs if run.history]
    known = [step for step in steps if step is not None]
    if not known:
        return MISSING
    first, last = min(known), max(known)
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _sweep(variant: Variant, style: tuple[str, str]) -> dict[str, Any] | None:
    """Returns the mean number of active units at each threshold, over the seeds that recorded it."""
    found = [counts for run in variant.runs if (counts := run.diagnostics.active_units_by_variance)]
    shared = set.intersection(*map(set, found)) if found else set()
    thresholds = sorted(shared, key=float)
    means = [sum(counts[threshold] or 0 for counts in found) / len(found) for threshold in thresholds]
    if not thresholds:
        return None
    return make_line(variant.label, [float(t) for t in thresholds], means, *style, mode="lines+markers")


def _positive(trace: dict[str, Any]) -> dict[str, Any]:
    points = [(x, y) for x, y in zip(trace["x"], trace["y"], strict=True) if y > 0]
    return trace | {"x": [x for x, _ in points], "y": [y for _, y in points]}
