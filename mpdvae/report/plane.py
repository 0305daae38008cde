r"""The rate-distortion plane, in which every VAE is a point (Alemi et al., ICML 2018, https://arxiv.org/abs/1711.00464).

.. math:: R = KL(q(z|x) \| p(z)), \qquad D = -E_q \log p(x|z), \qquad R + D = -\mathrm{ELBO} \ge -\log p(x)

as means over test images, in nats. Models of equal ELBO lie on lines of slope -1 (`contours`); along such a line, a higher
rate means that the decoder uses the code more. A model whose code collapsed lies at R = 0. Lines join models that differ in
one setting (`families`). A model has the colour that it has in all charts of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from mpdvae.errors import listed
from mpdvae.report.boxes import FONT, Room
from mpdvae.report.collect import Run, Study, Variant
from mpdvae.report.contours import Contour, Mark, Range, contours, marked
from mpdvae.report.families import Family, families
from mpdvae.report.figures import Address, Panel, Styles, make_panel
from mpdvae.report.labels import DOT, MARKER, Label, drawn, placed
from mpdvae.report.metrics import metric, over_seeds, value
from mpdvae.report.numbers import number
from mpdvae.report.palette import symbol, variant_styles

LEAST_MODELS = 3
"""Minimum number of models for which the plane is drawn."""
RATE, DISTORTION, NLL = "kl_nats", "reconstruction_nats", "nll_nats"
TITLE = "Rate and distortion"
HEADING = ("model", "varied setting")
GREY = "#888888"
MARGIN = 0.09
"""Margin of the axes, relative to the range of the data."""
NARROWEST, WIDEST = 210.0, 430.0
"""Width between the axes in pixels: in a window of 320 pixels, and in the widest column (page.css)."""
HEIGHT, MANY, TALL = 290, 12, 380
"""Height between the axes in pixels; and for this number of models or more."""
MARGINS = 52
"""Height of the margins in pixels."""
LEAST_SCALE = 3
"""Minimum number of points on a line for which strengths are shown instead of names."""
DASHES = {"solid": "solid", "dashed": "dash", "long-dashed": "longdash", "dash-dotted": "dashdot"}
"""Lines that join models; dotted ones are of equal ELBO."""
CAPTION = (
    "Rate is the KL from the prior, distortion the reconstruction term, both on test images; their values are among the "
    "numbers above. Click a point of the chart, or a link here, to see its run."
)


@dataclass(frozen=True)
class Point:
    """One model in the plane: means over the seeds that have both numbers."""

    variant: Variant
    runs: tuple[Run, ...]
    rate_nats: float
    distortion_nats: float
    settings: tuple[tuple[Family, float], ...]
    """Each family that the model belongs to, and its strength there."""

    @property
    def varied(self) -> str:
        """The settings in which the model differs from others, in words; may be empty."""
        return "; ".join(family.in_words(strength) for family, strength in self.settings)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells as formatted text, in the order of `HEADING`."""
        return self.variant.label, self.varied or "–"

    @property
    def text(self) -> str:
        """What labels the point: the strength on the line of a family that it alone belongs to, otherwise the name."""
        if len(self.settings) == 1 and len(self.settings[0][0].members) >= LEAST_SCALE:
            return f"{self.settings[0][1]:g}"
        return self.variant.label


@dataclass(frozen=True)
class Plane:
    """The chart of distortion against rate."""

    panel: Panel
    note: str
    """What lines and axes are."""
    legend: tuple[tuple[str, str], ...]
    """Letter in the chart, empty if there is no room for it, and model, for models that no text in the chart names."""


def points(study: Study) -> tuple[Point, ...]:
    """Returns the models of a study that have rate and distortion; empty if there are fewer than `LEAST_MODELS`."""
    found, dials = [], families(study)
    for variant in study.variants:
        runs = tuple(run for run in variant.runs if None not in _coordinates(run))
        if runs:
            rate, distortion = (sum(axis) / len(runs) for axis in zip(*map(_coordinates, runs), strict=True))
            settings = tuple((f, s) for f in dials for s, member in f.members if member is variant)
            found.append(Point(variant, runs, rate, distortion, settings))
    return tuple(found) if len(found) >= LEAST_MODELS else ()


def plane(study: Study, address: Address) -> Plane | None:
    """Returns the chart of distortion against rate; None if there are too few models."""
    found, dials = points(study), families(study)
    if not found:
        return None
    ranges = _range([p.rate_nats for p in found]), _range([p.distortion_nats for p in found])
    height = HEIGHT if len(found) < MANY else TALL
    lines = contours(*ranges)
    marks, labels = _texts(found, lines, ranges, Room(NARROWEST, WIDEST, float(height)))
    shown = list(zip(found, labels, strict=True))
    layout = {
        "xaxis": {"title": {"text": "rate (nats)"}, "range": list(ranges[0])},
        "yaxis": {"title": {"text": "distortion (nats)"}, "range": list(ranges[1])},
        "annotations": [*map(_numbered, marks), *(_named(point, label) for point, label in shown if label.text)],
    }
    joining = [_line(family, found, dash) for family, dash in zip(dials, cycle(DASHES.values()))]
    dots, large = _marks(found, variant_styles(study), address)
    traces = [*map(_contour, lines), *joining, *dots, *large]
    panel = make_panel("Distortion against rate, test images", traces, layout, height + MARGINS)
    legend = tuple((label.text, point.variant.label) for point, label in shown if not label.named)
    return Plane(panel, _note(dials, found), legend)


def _texts(
    found: Sequence[Point], lines: Sequence[Contour], ranges: tuple[Range, Range], room: Room
) -> tuple[list[Mark], list[Label]]:
    """Returns the numbers of the contours, and the label of each point."""

    def fraction(rate: float, distortion: float) -> tuple[float, float]:
        (left, right), (bottom, top) = ranges
        return (rate - left) / (right - left), (distortion - bottom) / (top - bottom)

    large = [fraction(p.rate_nats, p.distortion_nats) for p in found]
    small = [fraction(*_place(run)) for run in _seeds(found)]
    labels = placed(large, [point.text for point in found], room, small)
    return marked(lines, *ranges, room, drawn(large, labels, room, small)), labels


def _contour(line: Contour) -> dict[str, Any]:
    place = {"x": list(line.rates), "y": list(line.distortions)}
    style = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "line": style, "hoverinfo": "skip"} | place


def _line(family: Family, found: Sequence[Point], dash: str) -> dict[str, Any]:
    members = [point for _, variant in family.members for point in found if point.variant is variant]
    place = {"x": [p.rate_nats for p in members], "y": [p.distortion_nats for p in members]}
    line = {"color": GREY, "dash": dash, "width": 1.6}
    shown = {"name": family.title, "meta": family.title, "hoverinfo": "skip", "line": line}
    return {"type": "scatter", "mode": "lines"} | place | shown


def _numbered(mark: Mark) -> dict[str, Any]:
    text = {"text": mark.text, "showarrow": False, "font": {"size": FONT, "color": GREY}, "borderpad": 0}
    return {"x": mark.rate, "y": mark.distortion} | text


def _named(point: Point, label: Label) -> dict[str, Any]:
    text = {"text": label.text, "font": {"size": FONT}, "borderpad": 0, "xanchor": label.side, "yanchor": "middle"}
    place = {"x": point.rate_nats, "y": point.distortion_nats, "showarrow": label.led}
    (right, up), line = label.end, {"arrowhead": 0, "arrowwidth": 1, "arrowcolor": GREY, "standoff": MARKER}
    return text | place | (line | {"ax": right, "ay": -up} if label.led else {"xshift": right, "yshift": up})


def _marks(
    found: Sequence[Point], styles: Styles, address: Address
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns small dots for the seeds of models with several, and a large marker for each model."""
    dots, large = [], []
    for point in found:
        label = point.variant.label
        colour, dash = styles[label]
        common = {"type": "scatter", "mode": "markers", "name": label, "meta": label}
        common |= {"hovertemplate": "%{hovertext}<extra></extra>"}
        middle = {"x": [point.rate_nats], "y": [point.distortion_nats], "customdata": [address(point.runs[0].folder)]}
        marker = {"color": colour, "symbol": symbol(dash), "size": 11}
        large.append(common | middle | {"hovertext": [_hover(label, _mean(point.variant, NLL))], "marker": marker})
        if runs := _seeds([point]):
            places = [_place(run) for run in runs]
            shown: dict[str, Any] = {"x": [x for x, _ in places], "y": [y for _, y in places]}
            shown["customdata"] = [address(run.folder) for run in runs]
            shown["hovertext"] = [_hover(f"{run.name}, seed {run.seed}", value(run, NLL)) for run in runs]
            dots.append(common | shown | {"marker": {"color": colour, "size": 2 * DOT - 1, "opacity": 0.6}})
    return dots, large


def _note(dials: Sequence[Family], found: Sequence[Point]) -> str:
    """Returns what lines and small dots are, in one line."""
    told = ["Dotted: equal negative ELBO (rate + distortion, in nats)."]
    if dials:
        named = [f"{family.title} ({word})" for family, word in zip(dials, cycle(DASHES))]
        told.append(f"Joined: models that differ only in {listed(named)}.")
    if any(point.text != point.variant.label for point in found):
        told.append("Numbers at points: values of that setting.")
    if _seeds(found):
        told.append("Small dots: seeds.")
    return " ".join(told)


def _seeds(found: Sequence[Point]) -> list[Run]:
    return [run for point in found if len(point.runs) > 1 for run in point.runs]


def _hover(name: str, nll: float | None) -> str:
    return f"{name}: NLL {number(nll, metric(NLL).digits)} nats"


def _coordinates(run: Run) -> tuple[float | None, float | None]:
    return value(run, RATE), value(run, DISTORTION)


def _place(run: Run) -> tuple[float, float]:
    """Returns rate and distortion of a run that has both."""
    rate, distortion = _coordinates(run)
    assert rate is not None
    assert distortion is not None
    return rate, distortion


def _mean(variant: Variant, name: str) -> float | None:
    found = over_seeds(variant, name)
    return None if found is None else found.mean


def _range(shown: Sequence[float]) -> tuple[float, float]:
    margin = MARGIN * (max(shown) - min(shown)) or 1.0
    return min(shown) - margin, max(shown) + margin
