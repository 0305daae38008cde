"""Plotly figures of one study, as JSON that the page draws when they are scrolled into view.

A chart has a title, a caption, an HTML legend whose entries toggle traces, and panels: small figures that the page places
side by side or below each other, depending on the width. Backgrounds are transparent and text has no colour of its own, so
that the page can follow the reader's light or dark colour scheme. Traces name their legend entry in `meta`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

from mpdvae.measures.intervals import Estimate
from mpdvae.report.class_titles import class_titles, names_in
from mpdvae.report.collect import Run, Study, Variant
from mpdvae.report.development import development
from mpdvae.report.figures import (
    STEP_AXIS,
    Address,
    Chart,
    Panel,
    Styles,
    curves,
    make_chart,
    make_line,
    make_panel,
    settled,
)
from mpdvae.report.metrics import MEASURES, counts, metric, over_seeds, values
from mpdvae.report.palette import class_style, variant_styles
from mpdvae.report.schema import Codes
from mpdvae.report.scores import baselines
from mpdvae.report.sensitivity import sensitivity

MAP_POINTS = 1000
"""Maximum number of codes in one map."""
IDLE_NATS = 0.01
LEAST_NATS = 1e-4
"""Smaller values are drawn at this value, because a logarithmic axis has no zero."""

CHARTED = ["knn10_accuracy", "linear_accuracy", "rbf_svm_accuracy", "kmeans_accuracy", "kmeans_hungarian_accuracy"]
"""Scores that have a panel."""
BASELINE_STYLES = [("#888888", dash) for dash in ("solid", "dash", "dot", "dashdot")]


def charts(study: Study, address: Address) -> list[Chart]:
    """Returns all charts for which the study has data, in page order, but for the rate-distortion plane."""
    styles = variant_styles(study)
    makers: list[Callable[[Study, Styles], Chart | None]] = [
        learning,
        development,
        information,
        code_map,
        divergence,
        accuracies,
    ]
    return [
        chart for chart in (sensitivity(study, address), *(make(study, styles) for make in makers)) if chart is not None
    ]


def learning(study: Study, styles: Styles) -> Chart | None:
    """Returns the validation curves: a thin line for each seed, a bold line for their mean."""
    panels = []
    for name, title in (("negative_elbo_nats", "Negative ELBO"), ("kl_nats", "KL from the prior")):
        traces = [trace for v in study.variants for trace in curves(v, name, styles[v.label])]
        if traces:
            y_axis = {"title": {"text": "nats"}} | settled(traces)
            layout = {"xaxis": STEP_AXIS, "yaxis": y_axis}
            panels.append(make_panel(f"{title}, validation", traces, layout, 340))
    caption = (
        "On validation images, with averaged weights. Thin: one seed; bold: mean over seeds. The vertical axis covers the "
        "last three quarters of training; double-click to show everything."
    )
    return make_chart("learning", "Learning curves", caption, styles, panels)


def information(study: Study, styles: Styles) -> Chart | None:
    """Returns nats per latent dimension, sorted, in which a collapse shows as a cliff; and the decoder's use of each."""
    panels = [_profiles(study, styles, "Information per dimension", _carried)]
    if any(run.code_use for run in study.runs):
        panels.append(_profiles(study, styles, "Increase in distortion when one dimension is swapped", _used))
    caption = (
        "Nats that each latent dimension carries, sorted within each seed and averaged over seeds: KL from the best single "
        "Gaussian, which has the same meaning for every prior. Units below the dotted line (0.01 nats) are idle. Swapped: "
        "one dimension of an image's code takes its value from another image."
    )
    return make_chart("information", "Information per dimension", caption, styles, panels)


def _profiles(study: Study, styles: Styles, title: str, values_of: Callable[[Run], Sequence[float | None]]) -> Panel:
    traces: list[dict[str, Any]] = []
    longest = 0
    for variant in study.variants:
        mean = _mean_profile(variant, values_of)
        longest = max(longest, len(mean))
        colour, dash = styles[variant.label]
        x = list(range(1, len(mean) + 1))
        traces.append(
            make_line(variant.label, x, [max(v, LEAST_NATS) for v in mean], colour, dash, mode="lines+markers")
        )
    rule = {"x": [1, longest], "y": [IDLE_NATS, IDLE_NATS], "mode": "lines", "type": "scatter", "hoverinfo": "skip"}
    traces.append(rule | {"line": {"color": "#888888", "width": 1, "dash": "dot"}})
    layout = {
        "xaxis": {"title": {"text": "latent dimension, sorted"}},
        "yaxis": {"title": {"text": "nats"}, "type": "log", "dtick": 1, "tickformat": "~g"},
    }
    return make_panel(title, traces, layout, 360)


def _carried(run: Run) -> Sequence[float | None]:
    return run.diagnostics.information_per_dimension_nats


def _used(run: Run) -> Sequence[float | None]:
    swapped = run.code_use.increase_per_dimension_nats.swapped if run.code_use else []
    return [increase.mean for increase in swapped]


def code_map(study: Study, styles: Styles) -> Chart | None:
    """Returns a map per model of the first two principal components of test codes, coloured by class."""
    chosen = [(v.label, next((run for run in v.runs if run.codes is not None), None)) for v in study.variants]
    found = [(label, run, run.codes) for label, run in chosen if run is not None and run.codes is not None]
    titles = class_titles((c for *_, codes in found for c in codes.labels or []), names_in(study.runs))
    panels, bare = [], {"visible": False}
    for label, run, codes in found:
        layout = {"xaxis": bare, "yaxis": bare | {"scaleanchor": "x"}}
        explained = sum(codes.explained_variance)
        title = f"{label}, seed {run.seed}" + (f" ({explained:.0%} of variance)" if explained else "")
        panels.append(make_panel(title, _points(codes, titles), layout, 320, margin_left=8))
    caption = (
        f"Posterior means of up to {MAP_POINTS:,} test images, projected onto their first two principal components, which "
        "show only the stated share of the variance. Colour and shape: class."
    )
    legend = tuple((title, *class_style(label)) for label, title in titles.items())
    return Chart("map", "Map of the codes", caption, legend, tuple(panels)) if panels else None


def divergence(study: Study, styles: Styles) -> Chart | None:
    """Returns mean and spread of the mutual posterior divergence: a dot per seed, and the mean with its interval."""
    panels = []
    for name in ("mpd_mean_nats", "mpd_std_nats"):
        traces = [trace for v in study.variants for trace in _dots(v, name, styles[v.label][0])]
        shown = metric(name)
        layout = {
            "xaxis": {"title": {"text": "nats"}, "type": "log", "tickformat": "~g"},
            "yaxis": {"autorange": "reversed", "showgrid": False},
        }
        panels.append(make_panel(shown.label, traces, layout, 130 + 34 * len(study.variants), margin_left=140))
    caption = (
        "KL between the posteriors of two images, over all pairs. A large mean shows that codes differ; a spread far above "
        "the mean shows that a few isolated posteriors dominate it. Small dots: seeds; bars: 95% interval of the mean."
    )
    return make_chart("divergence", "Mutual posterior divergence", caption, styles, panels)


def accuracies(study: Study, styles: Styles) -> Chart | None:
    """Returns the test accuracy of simple classifiers on the codes, by number of labels or clusters."""
    panels, compared = [], baselines(study)
    greys = dict(zip((baseline.label for baseline in compared), cycle(BASELINE_STYLES)))
    for measure in CHARTED:
        (title, noun), found = MEASURES[measure], counts(study.runs, measure)
        if not found:
            continue
        lines = [(v.label, [over_seeds(v, f"{measure}/{count}") for count in found]) for v in study.variants]
        lines += [(b.label, [b.over_seeds(measure, count) for count in found]) for b in compared]
        traces = [_accuracy_line(label, found, estimates, (styles | greys)[label]) for label, estimates in lines]
        axis = "clusters K" if noun == "K" else "labels"
        layout = {
            "xaxis": {"title": {"text": axis}, "type": "category", "range": [-0.4, len(found) - 0.6]},
            "yaxis": {"title": {"text": "test accuracy"}, "tickformat": ".2~f"},
        }
        panels.append(make_panel(title, traces, layout, 340))
    caption = (
        "Mean over seeds; bars: 95% interval over seeds. Grey: raw pixels, principal components and an untrained encoder, "
        "on the same images. The axis does not start at zero."
    )
    return make_chart("accuracy", "Accuracy of simple classifiers on the codes", caption, styles | greys, panels)


def _mean_profile(variant: Variant, values_of: Callable[[Run], Sequence[float | None]]) -> list[float]:
    profiles = [sorted((v for v in values_of(run) if v is not None), reverse=True) for run in variant.runs]
    return [sum(column) / len(column) for column in zip(*profiles, strict=False)]


def _points(codes: Codes, titles: Mapping[int, str]) -> list[dict[str, Any]]:
    shown = range(min(len(codes.x), MAP_POINTS))
    labels = [0 if codes.labels is None else codes.labels[i] for i in shown]
    traces = []
    for label in sorted(set(labels)):
        colour, symbol = class_style(label)
        mine = [i for i in shown if labels[i] == label]
        name = "" if codes.labels is None else titles[label]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [round(codes.x[i], 3) for i in mine],
                "y": [round(codes.y[i], 3) for i in mine],
                "marker": {"color": colour, "symbol": symbol, "size": 5, "opacity": 0.75},
                "name": name,
                "meta": name,
                "text": name,  # a template would be interpreted
                "hovertemplate": "class %{text}<extra></extra>" if name else "<extra></extra>",
            }
        )
    return traces


def _dots(variant: Variant, name: str, colour: str) -> list[dict[str, Any]]:
    mean = over_seeds(variant, name)
    if mean is None:
        return []
    seeds = list(values(variant, name).values())
    common = {"type": "scatter", "mode": "markers", "meta": variant.label, "name": variant.label}
    small = {"x": seeds, "y": [variant.label] * len(seeds), "marker": {"color": colour, "size": 7, "opacity": 0.6}}
    large = {"x": [mean.mean], "y": [variant.label], "marker": {"color": colour, "size": 14, "symbol": "line-ns-open"}}
    if mean.interval is not None:
        # A logarithmic axis cannot show an interval that reaches zero: its lower end is cut at a tenth of the mean.
        reach = min(mean.half_width or 0.0, 0.9 * abs(mean.mean))
        error = {"type": "data", "array": [mean.half_width], "arrayminus": [reach], "color": colour, "thickness": 1.5}
        large["error_x"] = error | {"symmetric": False}
    return [common | small, common | large]


def _accuracy_line(
    label: str, found: Sequence[str], estimates: Sequence[Estimate | None], style: tuple[str, str]
) -> dict[str, Any]:
    have = {count: e for count, e in zip(found, estimates, strict=True) if e is not None}
    widths = [e.half_width or 0.0 for e in have.values()]
    labels = [f"{int(count):,}" if count.isdecimal() else count for count in have]
    line = make_line(label, labels, [e.mean for e in have.values()], *style, mode="lines+markers")
    return line | {"error_y": {"type": "data", "array": widths, "color": style[0], "thickness": 1.2, "width": 3}}
