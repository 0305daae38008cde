"""Data of the page's explorer for one study: maps of codes, neighbours and walks, of one run per model.

All models show the same test images, so their sheets of points are identical bytes: the page contains each sheet once.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpdvae.report.class_titles import class_titles, names_in
from mpdvae.report.collect import Run, Study
from mpdvae.report.explored import SHEETS, CodeMap, Explored
from mpdvae.report.figures import script_safe
from mpdvae.report.palette import class_style

MAP_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
COLOURINGS = {"class": "class", "kl": "KL", "distortion": "reconstruction error"}
CAPTION = (
    "Each point is a test image, chosen at random, the same for all models; codes are posterior means. Hover over a point "
    "to see its image; click it to see the images whose codes are nearest, in all dimensions of the code; drag over "
    "several points to see all their images. With the keyboard: arrow keys move from point to point, Escape clears the "
    "selection."
)
MAP_CAPTIONS = {
    "PCA": "two directions of the largest variance",
    "t-SNE": "preserves neighbourhoods; sizes of groups and distances between them mean nothing",
    "UMAP": "preserves neighbourhoods; distances between groups mean little",
}


@dataclass(frozen=True)
class Explorer:
    """The explorer of one study."""

    models: tuple[str, ...]
    """Names of the models to choose from, in the order of `data`."""
    maps: tuple[tuple[str, str], ...]
    """Name and title of each map that all models have."""
    colourings: tuple[tuple[str, str], ...]
    """Name and title of each colouring."""
    data: str
    """JSON, safe inside a script element: one object for each model."""
    sheets: tuple[tuple[str, str], ...]
    """Name and data URI of each sheet."""
    missing: tuple[str, ...]
    """Models without data to explore."""

    @property
    def captions(self) -> tuple[tuple[str, str], ...]:
        """Title and description of each map."""
        return tuple((title, MAP_CAPTIONS[title]) for _, title in self.maps)


def explorer(study: Study) -> Explorer:
    """Returns the explorer of a study, with the first seed of each model that has data to explore."""
    chosen = [(v.label, next((run for run in v.runs if run.explored), None)) for v in study.variants]
    found = [(label, run, run.explored) for label, run in chosen if run is not None and run.explored is not None]
    sheets: dict[str, bytes] = {}
    class_names = names_in(study.runs)
    models = [_model(label, run, explored, sheets, class_names) for label, run, explored in found]
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


def _model(
    label: str, run: Run, explored: Explored, sheets: dict[str, bytes], class_names: Sequence[str]
) -> dict[str, Any]:
    """Returns the page's data of one run whose classes have these names, and adds its sheets to `sheets`."""
    file = explored.file
    titles = class_titles(file.points.labels or [], class_names)
    names = {sheet: hashlib.sha256(explored.sheets[sheet]).hexdigest()[:16] for sheet in SHEETS}
    sheets |= {name: explored.sheets[sheet] for sheet, name in names.items()}
    return {
        "label": label,
        "seed": run.seed,
        "image": file.image.model_dump(),
        "sheets": names,
        "classes": file.points.labels,
        "styles": {str(number): class_style(number) for number in titles},
        "titles": {str(number): title for number, title in titles.items()},
        "kl": file.points.kl_nats,
        "distortion": file.points.reconstruction_nats,
        "maps": {name: _coordinates(found) for name, found in file.maps.items()},
        "neighbours": file.neighbours,
        "linear": file.linear_walks.model_dump(),
        "bilinear": file.bilinear_walk.model_dump(),
        "drawn": file.walks_drawn,
    }


def _coordinates(found: CodeMap) -> dict[str, Any]:
    shown = sum(found.explained_variance)
    return {"x": found.x, "y": found.y, "note": f"{shown:.0%} of the variance" if shown else ""}


def data_uri(content: bytes) -> str:
    """Returns the content of a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
