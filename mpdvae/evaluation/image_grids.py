"""Image grids as PNG files, enlarged by an integer factor without interpolation. Of images with other than one or three
channels, a picture shows the first three, or of two the first, in grey."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

GAP = 1
GROUND = 0.5
ENLARGED_WIDTH = 900
"""A grid is enlarged by the largest integer factor that keeps its width within this number of pixels."""


def grid(images: Float[Tensor, "row column channel height width"]) -> Float[Tensor, "channel grid_height grid_width"]:
    """Returns rows of images on a grey background with narrow gaps, in the value range of the images."""
    rows, columns, channels, height, width = images.shape
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), GROUND)
    for i in range(rows):
        for j in range(columns):
            top, left = GAP + i * (height + GAP), GAP + j * (width + GAP)
            canvas[:, top : top + height, left : left + width] = images[i, j]
    return canvas


def png(images: Float[Tensor, "row column channel height width"]) -> bytes:
    """Returns the grid of `images`, values in [0, 1], as the bytes of a PNG file."""
    from PIL import Image

    picture = _picture(grid(images.cpu()))
    factor = max(1, ENLARGED_WIDTH // picture.width)
    return _bytes(picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST))


def sheet(images: Float[Tensor, "n channel height width"], columns: int) -> bytes:
    """Returns `images`, values in [0, 1], side by side in rows of `columns`, without gaps and not enlarged, as the bytes of
    a PNG file that can be cut apart again."""
    rows = in_rows(images.cpu(), columns)
    return _bytes(_picture(rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)))


def _picture(canvas: Float[Tensor, "channel canvas_height canvas_width"]) -> "Picture":
    """Returns a picture with 8 bits for each of one or three channels, the first ones."""
    from PIL import Image

    canvas = canvas[: 3 if len(canvas) >= 3 else 1]
    levels = (canvas.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _bytes(picture: "Picture") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def in_rows(images: Float[Tensor, "n channel height width"], columns: int) -> Float[Tensor, "r c channel height width"]:
    """Returns `images` in rows of at most `columns`; the last row is padded with the background value."""
    missing = -len(images) % columns
    filler = images.new_full((missing, *images.shape[1:]), GROUND)
    return torch.cat([images, filler]).unflatten(0, (-1, columns))


def check_png_path(path: Path) -> None:
    """Raises `InputError` unless `path` is a file name that ends in .png."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise InputError(f"--out: expected the name of a file that ends in .png, got {str(path)!r}.")
