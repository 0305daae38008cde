"""Image grids as PNG files: pixels stay pixels, enlarged by a whole factor."""

import io
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.errors import InputError

GAP = 1
GROUND = 0.5
ENLARGED_WIDTH = 900
"""A grid is enlarged by the largest whole factor that keeps it within this many pixels."""


def grid(images: Float[Tensor, "row column channel height width"]) -> Float[Tensor, "channel grid_height grid_width"]:
    """Rows of images on a grey ground with narrow gaps, in the range of the images."""
    rows, columns, channels, height, width = images.shape
    canvas = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), GROUND)
    for i in range(rows):
        for j in range(columns):
            top, left = GAP + i * (height + GAP), GAP + j * (width + GAP)
            canvas[:, top : top + height, left : left + width] = images[i, j]
    return canvas


def png(images: Float[Tensor, "row column channel height width"]) -> bytes:
    """The grid of `images`, values in [0, 1], as the bytes of a PNG file."""
    from PIL import Image

    canvas = (grid(images.cpu()).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas)
    factor = max(1, ENLARGED_WIDTH // picture.width)
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def in_rows(images: Float[Tensor, "n channel height width"], columns: int) -> Float[Tensor, "r c channel height width"]:
    """`images` in rows of at most `columns`, the last one filled up with ground."""
    missing = -len(images) % columns
    filler = images.new_full((missing, *images.shape[1:]), GROUND)
    return torch.cat([images, filler]).unflatten(0, (-1, columns))


def check_png_path(path: Path) -> None:
    """Raises `InputError` unless `path` is the name of a file that ends in .png."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise InputError(f"--out: expected the name of a file that ends in .png, got {str(path)!r}.")
