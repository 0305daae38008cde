"""Building blocks of the page's figures: panels of plotly traces, lines over steps, and JSON that is safe in a page.

Backgrounds are transparent and text has no colour of its own, so that the page can follow the reader's light or dark colour
scheme. Traces name their legend entry in `meta`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpdvae.report.collect import Variant
from mpdvae.report.schema import HistoryPoint

Styles = dict[str, tuple[str, str]]
"""Colour and dash style of each variant, by label."""
Address = Callable[[Path], str]
"""Maps a run folder to a link within the report. Points with a link in `customdata` can be clicked."""

STEP_AXIS = {"title": {"text": "step"}}
"""Horizontal axis of curves over training steps. Panels with this axis share a cursor."""


@dataclass(frozen=True)
class Panel:
    title: str
    figure: str
    """JSON of a plotly figure, safe inside a script element."""
    height: int
    summary: str
    """Text alternative of the panel, for screen readers."""
    over_steps: bool
    """Whether the panel shows curves over training steps and therefore has a cursor."""


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    caption: str
    legend: tuple[tuple[str, str, str], ...]
    """Label, colour, and dash style or shape of each entry."""
    panels: tuple[Panel, ...]

    @property
    def over_steps(self) -> bool:
        """Whether any panel has a cursor."""
        return any(panel.over_steps for panel in self.panels)


def make_chart(name: str, title: str, caption: str, styles: Styles, panels: Sequence[Panel]) -> Chart | None:
    """Returns a chart whose legend has an entry for each variant; None without panels."""
    legend = tuple((label, *style) for label, style in styles.items())
    return Chart(name, title, caption, legend, tuple(panels)) if panels else None


def curves(variant: Variant, name: str, style: tuple[str, str]) -> list[dict[str, Any]]:
    """Returns the curves of one number over steps: a thin line for each seed that has it, a bold line for their mean."""
    by_step: dict[int, list[float]] = {}
    traces = []
    for run in variant.runs:
        points = [(p.step, v) for p in run.history if (v := _at(p, name)) is not None]
        if not points:
            continue
        for step, value in points:
            by_step.setdefault(step, []).append(value)
        x, y = [list(axis) for axis in zip(*points, strict=True)]
        thin = make_line(variant.label, x, y, *style, width=0.8) | {"opacity": 0.5, "hoverinfo": "skip"}
        traces.append(thin)
    # The mean covers only the steps at which every seed has a point: otherwise it would jump where a seed ends.
    complete = sorted(step for step, found in by_step.items() if len(found) == len(traces))
    mean = [sum(by_step[step]) / len(by_step[step]) for step in complete]
    return [*traces, make_line(variant.label, complete, mean, *style, width=2.4)] if traces else []


def settled(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the range of a vertical axis that covers everything after the first quarter of training."""
    last = max(x for trace in traces for x in trace["x"])
    late = [y for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True) if x >= last / 4]
    margin = 0.06 * (max(late) - min(late)) or 1.0
    return {"range": [min(late) - margin, max(late) + margin]}


def _at(point: HistoryPoint, name: str) -> float | None:
    return getattr(point, name)


def make_line(
    label: str,
    x: Sequence[int] | Sequence[float] | Sequence[str],
    y: Sequence[float],
    colour: str,
    dash: str,
    width: float = 1.8,
    mode: str = "lines",
) -> dict[str, Any]:
    """Returns the trace of one line."""
    line = {"color": colour, "dash": dash, "width": width}
    data = {"x": list(x), "y": [float(f"{value:.5g}") for value in y]}
    return {"type": "scatter", "mode": mode, "name": label, "meta": label, "line": line, "marker": {"size": 5}} | data


def make_panel(
    title: str, traces: list[dict[str, Any]], layout: dict[str, Any], height: int, margin_left: int = 52
) -> Panel:
    """Returns a panel with a figure of these traces, as JSON."""
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
    if "annotations" in layout:
        shared["annotations"] = _plain(layout["annotations"])
    # Names come from run folders, and plotly interprets some HTML in text: angle brackets are escaped.
    figure = go.Figure(data=[_plain(trace) for trace in traces], layout=shared)
    shown = list(dict.fromkeys(str(trace["name"]) for trace in traces if trace.get("name")))
    summary = f"{title}: {', '.join(shown)}" if shown else title
    return Panel(title, script_safe(figure.to_plotly_json()), height, summary, layout.get("xaxis") == STEP_AXIS)


def _plain(value: Any) -> Any:
    """Escapes HTML's special characters in all visible text."""
    if isinstance(value, dict):
        return {k: v if k in ("hovertemplate", "meta") else _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.replace("&", "&amp;").replace("<", "&lt;") if isinstance(value, str) else value


def script_safe(value: Any) -> str:
    """Returns JSON that cannot close the script element that contains it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
