"""The form in which users hold images: their axes, and the values of black and white.

Converts from that form to bytes [n channel height width] (`mpdvae.data.arrays`), and back.
"""

from typing import Any

import numpy as np

from mpdvae.errors import InputError

ValueRange = tuple[float | int, float | int]
"""Values of black and white."""


def axes_of_image(numbers: int, found: tuple[int, ...] | None, image_shape: Any) -> tuple[int, ...]:
    """Returns the axes of one image.

    Arguments:
        numbers: number of values in an image.
        found: axes of the images in X; None for flat rows.
        image_shape: the axes given by the user, one of which may be -1; None: not given.

    Raises:
        InputError: if neither determines the axes, or they contradict each other.
    """
    if image_shape is None:
        if found is None:
            raise InputError(
                f"image_shape: required for flat rows, got none and rows of {numbers} numbers; give the (height, width) of "
                "the images.",
                topic="own-data",
            )
        return found
    try:
        shape = np.empty(numbers).reshape(image_shape).shape
    except (ValueError, TypeError):
        raise InputError(
            f"image_shape: expected the shape of images of {numbers} numbers, got {image_shape}.", topic="own-data"
        ) from None
    if found not in (None, shape):
        raise InputError(
            f"image_shape: expected the shape of the images in X, {found}, got {image_shape}; leave it out.",
            topic="own-data",
        )
    return shape


def in_unit_range(x: np.ndarray, value_range: Any, where: str = "X") -> np.ndarray:
    """Maps values in `value_range` (black, white) to 0..1; leaves bytes and booleans as they are. Raises `InputError`, which
    calls the array `where`, for values outside the range."""
    if x.dtype in (np.bool_, np.uint8):
        return x
    try:
        low, high = map(float, value_range)
        ordered = low < high
    except (TypeError, ValueError):
        low, high, ordered = 0.0, 1.0, False
    if not ordered:
        raise InputError(
            f"value_range: expected (black, white) with black < white, got {value_range!r}.", topic="own-data"
        )
    if x.min() < low or x.max() > high:
        raise InputError(
            f"{where}: has values from {x.min():g} to {x.max():g}, expected {low:g} to {high:g}; scale them, or give their "
            "range as value_range.",
            topic="own-data",
        )
    return ((x.astype(np.float64) - low) / (high - low)).clip(0, 1)  # only rounding can exceed the bounds


def in_range(x: np.ndarray, dtype: np.dtype, value_range: Any) -> np.ndarray:
    """Maps values in 0..1 back, the inverse of `in_unit_range`: to bytes, rounded, if `dtype` is uint8; otherwise to floats
    in `value_range`."""
    if dtype == np.uint8:
        return np.round(255 * x).astype(np.uint8)
    low, high = (0, 1) if dtype == np.bool_ else value_range
    return low + (high - low) * x


def with_axes(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Returns images [n channel height width] in the user's axes."""
    if len(axes) == 3 and axes != images.shape[1:]:
        images = images.transpose(0, 2, 3, 1)
    return images.reshape(len(images), *axes)
