"""Images in a model folder, with which the model can be explored without its data set.

    images.png     the images side by side without gaps, 8 bits per channel, in rows of `columns`; a picture has one or three
                   channels, so that of images with others the channels are side by side, in grey
    images.json    their positions in the test split, labels, covariates, and the measured log p(x) of the first

They are test images, or images drawn from the model where the data may not be passed on. The image of position i has the
noise of position i (`mpdvae.measures.density`), so that log p(x) can be computed again from the weights and these files
alone.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from pydantic import Field, FiniteFloat
from torch import Tensor

from mpdvae.data.conditions import Known
from mpdvae.data.picture_file import read_picture
from mpdvae.data.protocols import conditioned, scaled
from mpdvae.errors import InputError
from mpdvae.evaluation import image_grids
from mpdvae.experiments.data_config import Data
from mpdvae.experiments.experiment import Origin
from mpdvae.experiments.fields import ImageShape
from mpdvae.report.schema import Part, Whole, read
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.closed_folder import Inside

SHEET, ABOUT = "images.png", "images.json"
COLUMNS = 25
ADVICE = "take the folder from its source again"


@dataclass(frozen=True)
class Examples:
    """Images in the value range of the model."""

    x: Float[Tensor, "n channel height width"]
    indices: list[int]
    """Position of each image in the test split; of drawn images: 0, 1, ..."""
    known: Known
    """Labels and covariates; of drawn images, those that they were drawn for."""
    log_prob_nats: list[float]
    """Measured importance-weighted log p(x) of the first images."""
    drawn: bool
    """Whether the images were drawn from the model."""


class _About(Part):
    """images.json"""

    columns: int = Field(ge=1, le=1000)
    drawn: bool
    indices: list[Whole] = Field(min_length=1)
    labels: list[Whole] | None = None
    covariates: list[list[FiniteFloat]] | None = None
    log_prob_nats: list[FiniteFloat]


def write(folder: Inside, examples: Examples, data: Data) -> None:
    """Writes the two files."""
    labels = None if examples.known.labels is None else examples.known.labels.tolist()
    shown = data.shown(examples.x)
    apart = _apart(shown.shape[1])
    columns = max(1, COLUMNS // apart)
    about: dict[str, Any] = {"columns": columns, "drawn": examples.drawn, "indices": examples.indices, "labels": labels}
    if examples.known.covariates is not None:
        about["covariates"] = examples.known.covariates.tolist()
    about["log_prob_nats"] = examples.log_prob_nats
    write_atomically(folder / SHEET, image_grids.sheet(shown.unflatten(1, (apart, -1)).flatten(0, 1), columns * apart))
    write_atomically(folder / ABOUT, json.dumps(about, allow_nan=False) + "\n")


def read_examples(folder: Inside, origin: Origin) -> Examples | None:
    """Returns the images in the folder of a model of this origin; None if it has none.

    Raises:
        InputError: if the files are damaged, or do not fit each other or the model.
    """
    path = folder / ABOUT
    if not path.is_file():
        return None
    about = read(_About, path, ADVICE)
    count = len(about.indices)
    tables = [table for table in (about.labels, about.covariates) if table is not None]
    if len(about.log_prob_nats) > count or any(len(table) != count for table in tables) or not _even(about.covariates):
        raise InputError(f"{path} is broken (its lists do not have {count} images): {ADVICE}.", topic="damaged")
    pixels = _cut(folder / SHEET, count, about.columns, origin.image_shape)
    protocol = origin.experiment.data.protocol()
    known = Known(*(None if table is None else torch.tensor(table) for table in (about.labels, about.covariates)))
    return Examples(
        x=conditioned(scaled(pixels, protocol), known, protocol),
        indices=about.indices,
        known=known,
        log_prob_nats=about.log_prob_nats,
        drawn=about.drawn,
    )


def _apart(channels: int) -> int:
    """Returns the number of pictures that one image becomes."""
    return 1 if channels in (1, 3) else channels


def _cut(
    path: Inside, count: int, columns: int, image_shape: ImageShape
) -> UInt8[Tensor, "count channel height width"]:
    """Returns the images of a sheet. Raises `InputError` for one of another size."""
    levels = torch.from_numpy(read_picture(path).copy())
    channels, height, width = image_shape
    apart = _apart(channels)
    rows = -(-count // columns)
    if levels.shape != (channels // apart, rows * height, columns * apart * width):
        raise InputError(
            f"{path} is broken (expected {count} images of {height}x{width} with {channels} channels in rows of {columns}, "
            f"got a picture of {levels.shape[1]}x{levels.shape[2]} with {levels.shape[0]}): {ADVICE}.",
            topic="damaged",
        )
    tiles = levels.unflatten(2, (-1, width)).unflatten(1, (-1, height)).permute(1, 3, 0, 2, 4).flatten(0, 1)
    return tiles[: count * apart].unflatten(0, (count, apart)).flatten(1, 2)


def _even(rows: list[list[float]] | None) -> bool:
    return rows is None or len({len(row) for row in rows}) == 1
