"""Sensitivity of MAE to its two weights: heat maps of some metrics over diversity (eta) and smoothness (gamma).

Weights are read from configurations, and models that differ in nothing else share a map (`families`). A weight that was
combined with only one other weight gets no row or column.
"""

from collections import defaultdict
from dataclasses import dataclass

from mpdvae.report.collect import Study, Variant
from mpdvae.report.families import DIVERSITY, SMOOTHNESS, configuration, number_at, without
from mpdvae.report.figures import Address, Chart, Panel, make_chart, make_panel
from mpdvae.report.metrics import metric, over_seeds, resolve
from mpdvae.report.numbers import number

SHOWN = ("nll_nats", "kl_nats", "knn10_accuracy/largest")
FEWEST_MODELS = 5
"""Minimum number of models of a heat map: four numbers are read in the table as well."""
COLOURS = "Cividis"
"""Sequential, and looks the same to colour-blind readers (Nunez et al. 2018, https://doi.org/10.1371/journal.pone.0199239)."""
CAPTION = (
    "Means over seeds for each pair of weights, with everything else equal. Lower is better for NLL, higher for accuracy. "
    "Click a cell to see its run."
)


@dataclass(frozen=True)
class Grid:
    """Models by their two weights."""

    etas: tuple[float, ...]
    gammas: tuple[float, ...]
    models: dict[tuple[float, float], Variant]
    """Models by (eta, gamma); some pairs may be missing."""


def grids(study: Study) -> list[Grid]:
    """Returns the grids of a study that contain at least two values of each weight."""
    groups: dict[str, dict[tuple[float, float], Variant]] = defaultdict(dict)
    for variant in study.variants:
        flat = configuration(variant)
        eta, gamma = number_at(flat, DIVERSITY), number_at(flat, SMOOTHNESS)
        if eta is not None and gamma is not None:
            groups[without(flat, (DIVERSITY, SMOOTHNESS))].setdefault((eta, gamma), variant)
    found = [_trimmed(models) for models in groups.values()]
    return [grid for grid in found if len(grid.etas) > 1 and len(grid.gammas) > 1]


def sensitivity(study: Study, address: Address) -> Chart | None:
    """Returns three heat maps for each grid with enough models to show a pattern; None if there are none."""
    shown = [grid for grid in grids(study) if len(grid.models) >= FEWEST_MODELS]
    panels = [panel for grid in shown for name in SHOWN if (panel := _heat_map(grid, name, address)) is not None]
    return make_chart("sensitivity", "Sensitivity to the two weights", CAPTION, {}, panels)


def _trimmed(models: dict[tuple[float, float], Variant]) -> Grid:
    """Removes weights that are combined with only one other weight, repeatedly until none is left."""
    while True:
        etas, gammas = [eta for eta, _ in models], [gamma for _, gamma in models]
        kept = {(e, g): v for (e, g), v in models.items() if etas.count(e) > 1 and gammas.count(g) > 1}
        if len(kept) == len(models):
            return Grid(tuple(sorted(set(etas))), tuple(sorted(set(gammas))), kept)
        models = kept


def _heat_map(grid: Grid, name: str, address: Address) -> Panel | None:
    resolved = resolve(name, grid.models.values())
    if resolved is None:
        return None
    shown = metric(resolved)
    means = {
        place: e.mean for place, variant in grid.models.items() if (e := over_seeds(variant, resolved)) is not None
    }
    if not means:
        return None
    rows = [[(eta, gamma) for eta in grid.etas] for gamma in grid.gammas]
    trace = {
        "type": "heatmap",
        "x": [f"{eta:g}" for eta in grid.etas],
        "y": [f"{gamma:g}" for gamma in grid.gammas],
        "z": [[means.get(place) for place in row] for row in rows],
        "text": [[number(means.get(place), shown.digits) for place in row] for row in rows],
        "texttemplate": "%{text}",
        "hovertext": [[grid.models[place].label if place in means else "" for place in row] for row in rows],
        "hovertemplate": "%{hovertext}: %{text}<extra></extra>",
        "customdata": [[address(grid.models[p].runs[0].folder) if p in means else None for p in row] for row in rows],
        "colorscale": COLOURS,
        "colorbar": {"thickness": 10, "outlinewidth": 0},
        "xgap": 2,
        "ygap": 2,
    }
    axes = {
        "xaxis": {"title": {"text": "diversity weight"}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": "smoothness weight"}, "type": "category", "showgrid": False},
    }
    title = f"{shown.label} ({shown.unit})" if shown.unit else shown.label
    return make_panel(title, [trace], axes, 300)
