"""Plotly figures of one study, as JSON that the page draws when it is scrolled into view.

A chart is a title, a caption, a legend in HTML whose entries switch traces on and off, and panels: small figures that the
page lays out side by side or below each other, as the width allows. Backgrounds are transparent and text has no colour of
its own, so that the page can follow the reader's light or dark scheme. Traces name their legend entry in `meta`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpdvae.report.collect import Run, Study, Variant
from mpdvae.report.metrics import MEASURES, counts, metric, over_seeds, values
from mpdvae.report.palette import class_style, model_styles
from mpdvae.report.schema import HistoryPoint
from mpdvae.report.scores import baselines
from mpdvae.statistics import Estimate

MAP_POINTS = 1000
"""Codes that one map shows at the most."""
IDLE_NATS = 0.01
LEAST_NATS = 1e-4
"""Information below this is drawn at this value: a logarithmic axis has no zero."""

CHARTED = ["knn10_accuracy", "linear_accuracy", "rbf_svm_accuracy", "kmeans_accuracy", "kmeans_hungarian_accuracy"]
"""Scores with a panel."""
BASELINE_STYLES = [("#888888", dash) for dash in ("solid", "dash", "dot", "dashdot")]

Styles = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Panel:
    title: str
    figure: str
    """JSON of a plotly figure, safe inside a script element."""
    height: int
    summary: str
    """What the panel shows, for those who cannot see it."""


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    """Entries and their colours."""
    panels: tuple[Panel, ...]


def charts(study: Study) -> list[Chart]:
    """All charts for which the study has data, in the order of the page."""
    styles = model_styles([v.label for v in study.variants], [v.model for v in study.variants])
    makers: list[Callable[[Study, Styles], Chart | None]] = [learning, information, code_map, divergence, accuracies]
    return [chart for make in makers if (chart := make(study, styles)) is not None]


def learning(study: Study, styles: Styles) -> Chart | None:
    """Validation curves: a thin line for each seed, a bold one for their mean."""
    panels = []
    for name, title in (("negative_elbo_nats", "Negative ELBO"), ("kl_nats", "KL from the prior")):
        traces = [trace for v in study.variants for trace in _curves(v, name, styles[v.label])]
        if traces:
            y_axis = {"title": {"text": "nats"}} | _settled(traces)
            layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": y_axis}
            panels.append(_panel(f"{title}, validation", traces, layout, 340))
    caption = (
        "On validation images, with averaged weights. Thin: one seed; bold: mean over seeds. The axis leaves out the first "
        "quarter's extremes; a double click shows all."
    )
    return _chart("learning", "Learning curves", caption, styles, panels)


def information(study: Study, styles: Styles) -> Chart | None:
    """Nats per latent dimension, sorted: a code that collapses falls off a cliff. Beside it, what the decoder makes of it."""
    panels = [_profiles(study, styles, "Information per dimension", _carried)]
    if any(run.code_use for run in study.runs):
        panels.append(_profiles(study, styles, "Increase of the distortion when one dimension is exchanged", _used))
    caption = (
        "How many nats each latent dimension carries, sorted within each seed and averaged over seeds: KL from the best "
        "single Gaussian, which means the same for every prior. Below the dotted line (0.01 nats) a unit is idle. Exchanged: "
        "one dimension of an image's code has the value of another image."
    )
    return _chart("information", "What each dimension carries", caption, styles, panels)


def _profiles(study: Study, styles: Styles, title: str, values_of: Callable[[Run], Sequence[float | None]]) -> Panel:
    traces: list[dict[str, Any]] = []
    longest = 0
    for variant in study.variants:
        mean = _mean_profile(variant, values_of)
        longest = max(longest, len(mean))
        colour, dash = styles[variant.label]
        x = list(range(1, len(mean) + 1))
        traces.append(_line(variant.label, x, [max(v, LEAST_NATS) for v in mean], colour, dash, mode="lines+markers"))
    rule = {"x": [1, longest], "y": [IDLE_NATS, IDLE_NATS], "mode": "lines", "type": "scatter", "hoverinfo": "skip"}
    traces.append(rule | {"line": {"color": "#888888", "width": 1, "dash": "dot"}})
    layout = {
        "xaxis": {"title": {"text": "latent dimension, sorted"}},
        "yaxis": {"title": {"text": "nats"}, "type": "log", "dtick": 1, "tickformat": "~g"},
    }
    return _panel(title, traces, layout, 360)


def _carried(run: Run) -> Sequence[float | None]:
    return run.diagnostics.information_per_dimension_nats


def _used(run: Run) -> Sequence[float | None]:
    swapped = run.code_use.increase_per_dimension_nats.swapped if run.code_use else []
    return [increase.mean for increase in swapped]


def code_map(study: Study, styles: Styles) -> Chart | None:
    """The first two principal components of test codes, one map for each model, coloured by class."""
    panels, classes = [], set()
    for variant in study.variants:
        run = next((run for run in variant.runs if run.codes is not None), None)
        if run is None or run.codes is None:
            continue
        classes |= set(run.codes.labels or [])
        bare = {"visible": False}
        layout = {"xaxis": bare, "yaxis": bare | {"scaleanchor": "x"}}
        explained = sum(run.codes.explained_variance)
        title = f"{variant.label}, seed {run.seed}" + (f" ({explained:.0%} of variance)" if explained else "")
        panels.append(_panel(title, _points(run), layout, 320, margin_left=8))
    caption = (
        f"Posterior means of up to {MAP_POINTS:,} test images, projected on their first two principal components: a view "
        "from one side, which shows only the stated share of the variance. Colour and shape: class."
    )
    legend = tuple((str(label), class_style(label)[0]) for label in sorted(classes))
    return Chart("map", "A map of the codes", caption, legend, tuple(panels)) if panels else None


def divergence(study: Study, styles: Styles) -> Chart | None:
    """Mean and spread of the mutual posterior divergence: a dot for each seed, the mean with its interval."""
    panels = []
    for name in ("mpd_mean_nats", "mpd_std_nats"):
        traces = [trace for v in study.variants for trace in _dots(v, name, styles[v.label][0])]
        shown = metric(name)
        layout = {
            "xaxis": {"title": {"text": "nats"}, "type": "log", "tickformat": "~g"},
            "yaxis": {"autorange": "reversed", "showgrid": False},
        }
        panels.append(_panel(shown.label, traces, layout, 130 + 34 * len(study.variants), margin_left=140))
    caption = (
        "KL between the posteriors of two images, over all pairs. A large mean says that codes differ; a spread far above "
        "it says that a few isolated posteriors make the mean. Small dots: seeds; bars: 95% interval of the mean."
    )
    return _chart("divergence", "Mutual posterior divergence", caption, styles, panels)


def accuracies(study: Study, styles: Styles) -> Chart | None:
    """Test accuracy of simple classifiers on the codes, by labels or clusters."""
    panels, compared = [], baselines(study)
    greys = dict(zip((baseline.label for baseline in compared), BASELINE_STYLES, strict=False))
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
        panels.append(_panel(title, traces, layout, 340))
    caption = (
        "Mean over seeds; bars: 95% interval over seeds. Grey: raw pixels, principal components and an untrained encoder, on "
        "the same images. The axis does not start at zero."
    )
    return _chart("accuracy", "What simple classifiers make of the codes", caption, styles | greys, panels)


def _chart(name: str, title: str, caption: str, styles: Styles, panels: Sequence[Panel]) -> Chart | None:
    legend = tuple((label, colour) for label, (colour, _) in styles.items())
    return Chart(name, title, caption, legend, tuple(panels)) if panels else None


def _curves(variant: Variant, name: str, style: tuple[str, str]) -> list[dict[str, Any]]:
    by_step: dict[int, list[float]] = {}
    traces = []
    for run in variant.runs:
        points = [(p.step, v) for p in run.history if (v := _at(p, name)) is not None]
        if not points:
            continue
        for step, value in points:
            by_step.setdefault(step, []).append(value)
        x, y = [list(axis) for axis in zip(*points, strict=True)]
        thin = _line(variant.label, x, y, *style, width=0.8) | {"opacity": 0.5, "hoverinfo": "skip"}
        traces.append(thin)
    # The mean is drawn only where every seed has a point, lest it jump where one ends.
    complete = sorted(step for step, found in by_step.items() if len(found) == len(traces))
    mean = [sum(by_step[step]) / len(by_step[step]) for step in complete]
    return [*traces, _line(variant.label, complete, mean, *style, width=2.4)] if traces else []


def _settled(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The range of a vertical axis that holds everything after the first quarter of training."""
    last = max(x for trace in traces for x in trace["x"])
    late = [y for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True) if x >= last / 4]
    margin = 0.06 * (max(late) - min(late)) or 1.0
    return {"range": [min(late) - margin, max(late) + margin]}


def _at(point: HistoryPoint, name: str) -> float | None:
    return getattr(point, name)


def _mean_profile(variant: Variant, values_of: Callable[[Run], Sequence[float | None]]) -> list[float]:
    profiles = [sorted((v for v in values_of(run) if v is not None), reverse=True) for run in variant.runs]
    return [sum(column) / len(column) for column in zip(*profiles, strict=False)]


def _points(run: Run) -> list[dict[str, Any]]:
    codes = run.codes
    assert codes is not None
    shown = range(min(len(codes.x), MAP_POINTS))
    labels = [0 if codes.labels is None else codes.labels[i] for i in shown]
    traces = []
    for label in sorted(set(labels)):
        colour, symbol = class_style(label)
        mine = [i for i in shown if labels[i] == label]
        name = "" if codes.labels is None else str(label)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [round(codes.x[i], 3) for i in mine],
                "y": [round(codes.y[i], 3) for i in mine],
                "marker": {"color": colour, "symbol": symbol, "size": 5, "opacity": 0.75},
                "name": name,
                "meta": name,
                "hovertemplate": f"class {name}<extra></extra>" if name else "<extra></extra>",
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
        # On a logarithmic axis an interval that reaches zero is cut at a tenth of the mean.
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
    line = _line(label, labels, [e.mean for e in have.values()], *style, mode="lines+markers")
    return line | {"error_y": {"type": "data", "array": widths, "color": style[0], "thickness": 1.2, "width": 3}}


def _line(
    label: str,
    x: Sequence[int] | Sequence[str],
    y: Sequence[float],
    colour: str,
    dash: str,
    width: float = 1.8,
    mode: str = "lines",
) -> dict[str, Any]:
    line = {"color": colour, "dash": dash, "width": width}
    data = {"x": list(x), "y": [float(f"{value:.5g}") for value in y]}
    return {"type": "scatter", "mode": mode, "name": label, "meta": label, "line": line, "marker": {"size": 5}} | data


def _panel(
    title: str, traces: list[dict[str, Any]], layout: dict[str, Any], height: int, margin_left: int = 52
) -> Panel:
    import plotly.graph_objects as go

    shared: dict[str, Any] = {
        "template": go.layout.Template(),
        "height": height,
        "showlegend": False,
        "margin": {"l": margin_left, "r": 8 if margin_left == 8 else 16, "t": 8, "b": 8 if margin_left == 8 else 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "font": {"size": 12},
    }
    axis = {"zeroline": False, "automargin": True, "fixedrange": False}
    for name in ("xaxis", "yaxis"):
        shared[name] = axis | layout.get(name, {})
    # Names come from run folders: plotly reads some HTML in text, so angle brackets do not get there.
    figure = go.Figure(data=[_plain(trace) for trace in traces], layout=shared)
    shown = list(dict.fromkeys(str(trace["name"]) for trace in traces if trace.get("name")))
    summary = f"{title}: {', '.join(shown)}" if shown else title
    return Panel(title, script_safe(figure.to_plotly_json()), height, summary)


def _plain(value: Any) -> Any:
    """The same with HTML's special characters escaped in texts that a reader sees."""
    if isinstance(value, dict):
        return {k: v if k in ("hovertemplate", "meta") else _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.replace("&", "&amp;").replace("<", "&lt;") if isinstance(value, str) else value


def script_safe(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
