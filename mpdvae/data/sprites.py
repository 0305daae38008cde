"""Sprites: 9,216 binary images, 32x32, of one white figure, one for each combination of five factors of variation.

    factor       values                                        unit
    shape        half disc, corner, triangle                   -
    scale        6, 7, 8, 9                                    pixels: radius of a circle around the figure
    orientation  0, 30, ..., 330                               degrees, counter-clockwise
    x            9, 11, ..., 23                                 pixels from the left edge to the centre
    y            9, 11, ..., 23                                 pixels from the upper edge to the centre

In the spirit of dSprites (Matthey et al. 2017, https://github.com/google-deepmind/dsprites-dataset), whose images are not
used: these are drawn here, in a second, and nothing is fetched. Unlike a square and an ellipse, the three figures look
different in all orientations, so that every image has its own factors.

A pixel is white if its centre lies in the figure. No centre lies near an outline, so that rounding, which depends on the
processor, decides nothing. Labels are the shapes. Images are in the order of the table of factors (the last varies fastest)
before they are split: the 2,000 test images are always the same, chosen with the paper's seed, 524287; the others are split
by the seed of the protocol, 1,000 of them for validation.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from mpdvae.data.entry import Entry
from mpdvae.data.files import checksum
from mpdvae.data.images import Factor, Images, Splits
from mpdvae.data.progress import Listener
from mpdvae.data.protocols import PAPER_SPLIT_SEED, split_train_validation
from mpdvae.errors import InputError

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From coordinates, right and up, in a unit circle: positive within the figure, negative outside, zero on its outline."""

_TEST_SIZE = 2_000
_VALIDATION_SIZE = 1_000
_SIDE = 32
_PATCH = 18
"""Side of the square in which a figure is drawn: that around the largest circle."""
_STEP = 2
"""Pixels between two positions."""
_POSITIONS = 8
_RADII = (6, 7, 8, 9)
_DEGREES = tuple(range(0, 360, 30))
_SHA256 = "ae4960f070d499e7e6226311781b87ad9a6abec5574b695e85dd29531e647401"


def _half_disc(right: np.ndarray, up: np.ndarray) -> np.ndarray:
    return np.minimum(0.87**2 - right**2 - (up + 0.39) ** 2, up + 0.39)


def _corner(right: np.ndarray, up: np.ndarray) -> np.ndarray:
    upright = _rectangle(right, up, (-0.66, -0.17), (-0.74, 0.74))
    return np.maximum(upright, _rectangle(right, up, (-0.66, 0.66), (-0.74, -0.26)))


def _triangle(right: np.ndarray, up: np.ndarray) -> np.ndarray:
    return np.minimum(up + 0.79, 0.98 - up - 2.95 * np.abs(right))


def _rectangle(
    right: np.ndarray, up: np.ndarray, across: tuple[float, float], along: tuple[float, float]
) -> np.ndarray:
    sides = [right - across[0], across[1] - right, up - along[0], along[1] - up]
    return np.minimum.reduce(sides)


_OUTLINES: dict[str, Outline] = {"half disc": _half_disc, "corner": _corner, "triangle": _triangle}

_CENTRES = tuple(f"{_PATCH // 2 + _STEP * k} px" for k in range(_POSITIONS))

FACTORS = (
    Factor("shape", tuple(_OUTLINES), ordered=False),
    Factor("scale", tuple(f"{radius} px" for radius in _RADII), ordered=True),
    Factor("orientation", tuple(f"{degrees} degrees" for degrees in _DEGREES), ordered=True),
    Factor("x", _CENTRES, ordered=True),
    Factor("y", _CENTRES, ordered=True),
)


def load_sprites(root: Path, validation_size: int | None, split_seed: int) -> Splits:
    """Draws the sprites, split 6,216 / 1,000 / 2,000 by default. `root` is ignored."""
    pixels, factors = map(torch.from_numpy, drawn())
    images = Images(pixels[:, None] * 255, factors[:, 0], factors)
    rest, test = split_train_validation(len(images), _TEST_SIZE, PAPER_SPLIT_SEED)
    size = _VALIDATION_SIZE if validation_size is None else validation_size
    train, validation = split_train_validation(len(rest), size, split_seed)
    parts = (images.take(rest[train]), images.take(rest[validation]), images.take(test))
    return Splits.of("sprites", "sprites", *parts, split_seed, binarised="drawn black and white", factors=FACTORS)


def drawn() -> tuple[UInt8[np.ndarray, "9216 32 32"], Int64[np.ndarray, "9216 5"]]:
    """Returns the images, of 0 and 1, and the number of the value of each factor in each image."""
    factors = np.indices([len(factor.values) for factor in FACTORS]).reshape(len(FACTORS), -1).T
    pixels = np.zeros((len(factors), _SIDE, _SIDE), np.uint8)
    patches = figures() > 0
    for image, (shape, scale, orientation, x, y) in zip(pixels, factors, strict=True):
        rows, columns = (slice(_STEP * k, _STEP * k + _PATCH) for k in (y, x))
        image[rows, columns] = patches[shape, scale, orientation]
    return pixels, np.ascontiguousarray(factors, np.int64)


def figures() -> Float[np.ndarray, "3 4 12 18 18"]:
    """Returns the outlines of all shapes, scales and orientations at the centres of pixels: positive within the figure."""
    offsets = np.arange(_PATCH) - (_PATCH - 1) / 2
    right, up = np.meshgrid(offsets, -offsets)
    values = np.empty((len(_OUTLINES), len(_RADII), len(_DEGREES), _PATCH, _PATCH))
    for place in np.ndindex(values.shape[:3]):
        outline, radius = list(_OUTLINES.values())[place[0]], _RADII[place[1]]
        turn = math.radians(_DEGREES[place[2]])
        across, along = math.cos(turn) * right + math.sin(turn) * up, math.cos(turn) * up - math.sin(turn) * right
        values[place] = outline(across / radius, along / radius)
    return values


def _check(root: Path) -> str:
    given = checksum(b"".join(array.tobytes() for array in drawn()))
    if given != _SHA256:
        raise InputError(
            f"sprites: the images that are drawn here have SHA-256 {given}, expected {_SHA256}; install another version of "
            "numpy.",
            topic="downloads",
        )
    return f"sprites: the images match the known checksum (SHA-256 of the pixels as 0 and 1, and of the factors)\n  {given}"


def _nothing_to_fetch(root: Path, listener: Listener) -> None:
    listener.say("sprites: drawn when they are loaded, nothing to fetch")


ENTRY = Entry(
    name="sprites",
    title="sprites",
    images="9,216, 32x32 black and white, with five known factors",
    size_mb=0.0,
    licence="Apache-2.0 (drawn by this package)",
    protocol="6,216 / 1,000 / 2,000 by seed, the test images fixed",
    load=load_sprites,
    is_here=lambda root: True,
    fetch=_nothing_to_fetch,
    check=_check,
)
