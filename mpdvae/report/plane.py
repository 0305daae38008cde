r"""The rate-distortion plane, in which every VAE is a point (Alemi et al., ICML 2018, https://arxiv.org/abs/1711.00464).

.. math:: R = KL(q(z|x) \| p(z)), \qquad D = -E_q \log p(x|z), \qquad R + D = -\mathrm{ELBO} \ge -\log p(x)

as means over test images, in nats. Models of equal ELBO lie on lines of slope -1; along such a line, a higher rate means
that the decoder uses the code more. A model whose code collapsed lies at R = 0. Lines join models that differ in one
setting (`families`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from mpdvae.report.collect import Run, Study, Variant
from mpdvae.report.families import Family, families
from mpdvae.report.figures import Address, Chart, make_chart, make_panel
from mpdvae.report.labels import placed
from mpdvae.report.metrics import metric, over_seeds, value
from mpdvae.report.numbers import number
from mpdvae.report.palette import SYMBOLS, model_styles

LEAST_MODELS = 3
"""Minimum number of models for which the plane is drawn."""
RATE, DISTORTION, NEGATIVE_ELBO, NLL = "kl_nats", "reconstruction_nats", "negative_elbo_nats", "nll_nats"
HEADING = ("model", "varied setting", "rate (nats)", "distortion (nats)", "negative ELBO (nats)", "NLL (nats)")
OTHERS = "other models"
GREY = "#888888"
MARGIN = 0.07
"""Margin of the axes, relative to the range of the data."""
SIZE = (390.0, 290.0)
"""Width and height in pixels for which texts are placed: those of the chart beside the samples, without its margins."""
MARGINS = 52
"""Height of the margins in pixels."""
LINES = 12
"""Maximum number of lines of equal ELBO."""
INSET = 0.02
"""Inset of the labels of these lines, relative to the axis."""
LEAST_SCALE = 3
"""Minimum number of points on a line for which strengths are shown instead of names."""
CAPTION = (
    "Rate is the KL from the prior, distortion the reconstruction term, both on test images. In the chart above, dotted "
    "lines mark equal negative ELBO, rate + distortion; other lines join models that differ in one setting, whose value "
    "labels the points of lines with at least three; small dots are seeds. Click a point, or a link in the table, to see its "
    "run."
)


@dataclass(frozen=True)
class Point:
    """One model in the plane: means over the seeds that have both numbers."""

    variant: Variant
    runs: tuple[Run, ...]
    rate_nats: float
    distortion_nats: float
    strengths: tuple[tuple[str, float], ...]
    """Title of each family that the model belongs to, and its strength there."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells as formatted text, in the order of `HEADING`."""
        varied = "; ".join(f"{title} = {strength:g}" for title, strength in self.strengths) or "–"
        numbers = (self.rate_nats, self.distortion_nats, *(_mean(self.variant, name) for name in (NEGATIVE_ELBO, NLL)))
        return self.variant.label, varied, *(number(found, 2) for found in numbers)


@dataclass(frozen=True)
class Group:
    """Points that are drawn alike."""

    title: str
    points: Sequence[Point]
    named: bool
    """Whether texts are names of models; otherwise they are strengths."""
    style: tuple[str, str]
    """Colour and symbol."""

    def text(self, point: Point) -> str:
        return point.variant.label if self.named else f"{point.strengths[0][1]:g}"


def points(study: Study) -> tuple[Point, ...]:
    """Returns the models of a study that have rate and distortion; empty if there are fewer than `LEAST_MODELS`."""
    found, dials = [], families(study)
    for variant in study.variants:
        runs = tuple(run for run in variant.runs if None not in _coordinates(run))
        if runs:
            rate, distortion = (sum(axis) / len(runs) for axis in zip(*map(_coordinates, runs), strict=True))
            strengths = tuple((f.title, s) for f in dials for s, member in f.members if member is variant)
            found.append(Point(variant, runs, rate, distortion, strengths))
    return tuple(found) if len(found) >= LEAST_MODELS else ()


def plane(study: Study, address: Address) -> Chart | None:
    """Returns the chart of distortion against rate; None if there are too few models."""
    found = points(study)
    if not found:
        return None
    dials = families(study)
    styles = model_styles([family.title for family in dials], [family.title for family in dials])
    lines = [_line(family, found, styles[family.title]) for family in dials]
    alone = [point for point in found if len(point.strengths) != 1]
    ranges = _range([p.rate_nats for p in found]), _range([p.distortion_nats for p in found])
    groups = [Group(OTHERS, alone, True, (GREY, SYMBOLS[0]))]
    for family, symbol in zip(dials, cycle(SYMBOLS[1:])):
        named = len(family.members) < LEAST_SCALE
        groups.append(Group(family.title, _only_in(family, found), named, (styles[family.title][0], symbol)))
    marks = [trace for group in groups for trace in _marks(group, _places(groups, ranges), address)]
    layout = {
        "xaxis": {"title": {"text": "rate (nats)"}, "range": list(ranges[0])},
        "yaxis": {"title": {"text": "distortion (nats)"}, "range": list(ranges[1])},
    }
    traces = [*equal_elbo(*ranges), *lines, *marks]
    panel = make_panel("Distortion against rate, test images", traces, layout, round(SIZE[1]) + MARGINS)
    return make_chart("plane", "Rate and distortion", CAPTION, styles | {OTHERS: (GREY, "solid")}, [panel])


def equal_elbo(rates: tuple[float, float], distortions: tuple[float, float]) -> list[dict[str, Any]]:
    """Returns dotted lines of constant rate + distortion, at round numbers, across the whole plane."""
    least, most = rates[0] + distortions[0], rates[1] + distortions[1]
    step = _round_step((most - least) / LINES)
    traces = []
    for multiple in range(math.floor(least / step) + 1, math.ceil(most / step)):
        total = multiple * step
        first, last = max(rates[0], total - distortions[1]), min(rates[1], total - distortions[0])
        # The label is slightly inset, so that the border does not cut it off.
        x = [first, first + INSET * (rates[1] - rates[0]), last]
        label = {"text": ["", f"{total:g}", ""], "textposition": "top right", "textfont": {"size": 10, "color": GREY}}
        if x[1] >= last:
            continue
        line = {"color": GREY, "width": 1, "dash": "dot"}
        trace = {"type": "scatter", "mode": "lines+text", "x": x, "y": [total - rate for rate in x], "line": line}
        traces.append(trace | label | {"hoverinfo": "skip"})
    return traces


def _line(family: Family, found: Sequence[Point], style: tuple[str, str]) -> dict[str, Any]:
    members = [point for _, variant in family.members for point in found if point.variant is variant]
    place = {"x": [p.rate_nats for p in members], "y": [p.distortion_nats for p in members]}
    line = {"color": style[0], "dash": style[1], "width": 1.6}
    shown = {"name": family.title, "meta": family.title, "hoverinfo": "skip", "line": line}
    return {"type": "scatter", "mode": "lines"} | place | shown


def _only_in(family: Family, found: Sequence[Point]) -> list[Point]:
    """Returns the points that belong to this family only; points of several families are drawn once, as other models."""
    return [point for point in found if [title for title, _ in point.strengths] == [family.title]]


def _places(groups: Sequence[Group], ranges: tuple[tuple[float, float], tuple[float, float]]) -> dict[str, str]:
    """Returns the place of each point's text, by the label of its model."""
    shown = [(point, group.text(point)) for group in groups for point in group.points]
    (left, right), (bottom, top) = ranges
    fractions = [
        ((p.rate_nats - left) / (right - left), (p.distortion_nats - bottom) / (top - bottom)) for p, _ in shown
    ]
    places = placed(fractions, [text for _, text in shown], SIZE)
    return {point.variant.label: place for (point, _), place in zip(shown, places, strict=True)}


def _marks(group: Group, places: dict[str, str], address: Address) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns large markers with their texts, and small dots for several seeds."""
    (colour, symbol), title, shown = group.style, group.title, group.points
    common = {"type": "scatter", "name": title, "meta": title, "hovertemplate": "%{hovertext}<extra></extra>"}
    large = {
        "mode": "markers+text",
        "x": [p.rate_nats for p in shown],
        "y": [p.distortion_nats for p in shown],
        "text": [group.text(p) for p in shown],
        "textposition": [places[p.variant.label] for p in shown],
        "hovertext": [_hover(p.variant.label, _mean(p.variant, NLL)) for p in shown],
        "customdata": [address(p.runs[0].folder) for p in shown],
        "marker": {"color": colour, "symbol": symbol, "size": 11},
    }
    seeds = [run for p in shown if len(p.runs) > 1 for run in p.runs]
    small = {
        "mode": "markers",
        "x": [value(run, RATE) for run in seeds],
        "y": [value(run, DISTORTION) for run in seeds],
        "hovertext": [_hover(f"{run.name}, seed {run.seed}", value(run, NLL)) for run in seeds],
        "customdata": [address(run.folder) for run in seeds],
        "marker": {"color": colour, "symbol": symbol, "size": 5, "opacity": 0.6},
    }
    return common | large, common | small


def _hover(name: str, nll: float | None) -> str:
    return f"{name}: NLL {number(nll, metric(NLL).digits)} nats"


def _coordinates(run: Run) -> tuple[float | None, float | None]:
    return value(run, RATE), value(run, DISTORTION)


def _mean(variant: Variant, name: str) -> float | None:
    found = over_seeds(variant, name)
    return None if found is None else found.mean


def _range(shown: Sequence[float]) -> tuple[float, float]:
    margin = MARGIN * (max(shown) - min(shown)) or 1.0
    return min(shown) - margin, max(shown) + margin


def _round_step(about: float) -> float:
    """Rounds up to the next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step for m in (1, 2, 5, 10) if (step := m * power) >= about)
