"""What the page lets one explore of a study: maps of codes, neighbours, walks; one run for each model, as data for the page.

All models show the same test images, so that their sheets of points are the same bytes: each sheet is in the page once.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpdvae.report.collect import Run, Study
from mpdvae.report.explored import SHEETS, CodeMap, Explored
from mpdvae.report.figures import script_safe
from mpdvae.report.palette import class_style

MAP_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
COLOURINGS = {"class": "class", "kl": "KL", "distortion": "reconstruction error"}
CAPTION = (
    "One point for each of some random test images, the same for all models; codes are posterior means. Point at one to see "
    "its image; press it to see the images whose codes are nearest, in all dimensions of the code; drag over some to see "
    "them all. With the keyboard: arrow keys go from point to point, Escape clears."
)
MAP_CAPTIONS = {
    "PCA": "two directions of the largest variance",
    "t-SNE": "keeps neighbourhoods; sizes of groups and distances between them mean nothing",
    "UMAP": "keeps neighbourhoods; distances between groups mean little",
}


@dataclass(frozen=True)
class Explorer:
    """What can be explored of a study."""

    models: tuple[str, ...]
    """Names of what can be chosen, in the order of `data`."""
    maps: tuple[tuple[str, str], ...]
    """Name and title of the maps that all models have."""
    colourings: tuple[tuple[str, str], ...]
    """Name and title."""
    data: str
    """JSON, safe inside a script element: one object for each model."""
    sheets: tuple[tuple[str, str], ...]
    """Name and data URI."""
    missing: tuple[str, ...]
    """Models without anything to explore."""

    @property
    def captions(self) -> tuple[tuple[str, str], ...]:
        """What each map shows."""
        return tuple((title, MAP_CAPTIONS[title]) for _, title in self.maps)


def explorer(study: Study) -> Explorer:
    """Of each model the first seed that can be explored."""
    chosen = [(v.label, next((run for run in v.runs if run.explored), None)) for v in study.variants]
    found = [(label, run, run.explored) for label, run in chosen if run is not None and run.explored is not None]
    sheets: dict[str, bytes] = {}
    models = [_model(label, run, explored, sheets) for label, run, explored in found]
    everywhere = [name for name in MAP_TITLES if found and all(name in explored.file.maps for *_, explored in found)]
    labelled = any(explored.file.points.labels is not None for *_, explored in found)
    return Explorer(
        models=tuple(f"{label}, seed {run.seed}" for label, run, _ in found),
        maps=tuple((name, MAP_TITLES[name]) for name in everywhere),
        colourings=tuple((name, title) for name, title in COLOURINGS.items() if name != "class" or labelled),
        data=script_safe(models),
        sheets=tuple((name, data_uri(content)) for name, content in sheets.items()),
        missing=tuple(label for label, run in chosen if run is None),
    )


def _model(label: str, run: Run, explored: Explored, sheets: dict[str, bytes]) -> dict[str, Any]:
    """What the page needs of one run; adds its sheets to `sheets`."""
    file = explored.file
    names = {sheet: hashlib.sha256(explored.sheets[sheet]).hexdigest()[:16] for sheet in SHEETS}
    sheets |= {name: explored.sheets[sheet] for sheet, name in names.items()}
    return {
        "label": label,
        "seed": run.seed,
        "image": file.image.model_dump(),
        "sheets": names,
        "classes": file.points.labels,
        "styles": _styles(file.points.labels or []),
        "kl": file.points.kl_nats,
        "distortion": file.points.reconstruction_nats,
        "maps": {name: _coordinates(found) for name, found in file.maps.items()},
        "neighbours": file.neighbours,
        "linear": file.linear_walks.model_dump(),
        "bilinear": file.bilinear_walk.model_dump(),
        "drawn": file.walks_drawn,
    }


def _styles(labels: Sequence[int]) -> dict[str, tuple[str, str]]:
    return {str(label): class_style(label) for label in sorted(set(labels))}


def _coordinates(found: CodeMap) -> dict[str, Any]:
    shown = sum(found.explained_variance)
    return {"x": found.x, "y": found.y, "note": f"{shown:.0%} of the variance" if shown else ""}


def data_uri(content: bytes) -> str:
    """A PNG file inside a URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
