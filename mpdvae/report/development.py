"""How codes developed during training and whether they collapsed: curves, active units over thresholds, verdicts.

Runs of earlier versions recorded fewer numbers: missing ones are left out of curves and shown as a dash in the table.
"""

from dataclasses import dataclass
from typing import Any

from mpdvae.measures import collapse
from mpdvae.report.collect import Run, Study, Variant
from mpdvae.report.figures import STEP_AXIS, Chart, Styles, curves, make_chart, make_line, make_panel
from mpdvae.report.numbers import number

CURVES = (
    ("information_nats", "Information, all dimensions", "nats", "linear"),
    ("mutual_information_nats", "Mutual information, lower bound", "nats", "linear"),
    ("encoder_lag_nats", "Encoder lag", "nats", "linear"),
    ("pull_ratio", "Gradient norm: reconstruction over the strongest other term", "ratio", "log"),
    ("code_use_nats", "Cost of a wrong code to the decoder", "nats", "log"),
)
"""Numbers of an evaluation point, with title, unit and type of axis."""
HEADING = ("model", "seed", "verdict", "encoder lag (nats)", "cost of a wrong code (nats)", "gradient ratio")
CAPTION = (
    "Verdicts refer to the validation images at the end of training: they judge the information of the whole code, what the "
    "decoder loses without it, then its units. Encoder lag: gain in "
    "ELBO from ten gradient steps on the posteriors of some test images. Gradient ratio: how strongly the reconstruction "
    "pulls an image's posterior, relative to the strongest other term of the loss."
)


@dataclass(frozen=True)
class Fate:
    """One row of the table: the collapse diagnosis of one run, as formatted text."""

    model: str
    seed: int
    verdict: str
    lag: str
    code_use: str
    pull: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells, in the order of `HEADING`."""
        return self.model, str(self.seed), self.verdict, self.lag, self.code_use, self.pull


def fates(study: Study) -> tuple[Fate, ...]:
    """Returns a row for each run, by model and seed."""
    return tuple(_fate(variant.label, run) for variant in study.variants for run in variant.runs)


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


def _fate(label: str, run: Run) -> Fate:
    found = run.diagnostics
    lag = number(found.encoder_lag.gain_nats, 2)
    if found.encoder_lag.gain_standard_error_nats is not None:
        lag += f" ± {number(found.encoder_lag.gain_standard_error_nats, 2)}"
    return Fate(label, run.seed, _verdict(run), lag, number(found.code_use_nats, 2), number(found.pull_ratio, 2))


def _verdict(run: Run) -> str:
    if not run.history or not run.history[-1].verdict:
        return collapse.sentence(run.diagnostics.verdict, None)
    last = run.history[-1]
    return collapse.sentence(last.verdict, last.verdict_since_step, last.verdict_since_step == run.history[0].step)


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
