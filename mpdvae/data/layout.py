"""The form in which a user has images: their axes, and the numbers that are black and white.

From there to bytes [n channel height width] (`mpdvae.data.arrays`), and back.
"""

from typing import Any

import numpy as np

from mpdvae.errors import InputError


def axes_of_image(numbers: int, found: tuple[int, ...] | None, image_shape: Any) -> tuple[int, ...]:
    """The axes of one image.

    Arguments:
        numbers: of an image.
        found: axes of the images in X; None for flat rows.
        image_shape: what the user says they are, one of them perhaps -1; None: nothing.

    Raises:
        InputError: where neither says it, or they contradict each other.
    """
    if image_shape is None:
        if found is None:
            raise InputError(
                f"image_shape: flat rows need it, got none and rows of {numbers} numbers; give the (height, width) of their "
                "images.",
                topic="own-data",
            )
        return found
    try:
        shape = np.empty(numbers).reshape(image_shape).shape
    except ValueError:
        raise InputError(
            f"image_shape: {image_shape} does not hold the {numbers} numbers of an image.", topic="own-data"
        ) from None
    if found not in (None, shape):
        raise InputError(
            f"image_shape: expected that of the images in X, {found}, got {image_shape}; leave it out.",
            topic="own-data",
        )
    return shape


def in_unit_range(x: np.ndarray, value_range: Any) -> np.ndarray:
    """Numbers of `value_range` (black, white) in 0..1; bytes and booleans as they are. Raises `InputError` for others."""
    if x.dtype in (np.bool_, np.uint8):
        return x
    low, high = value_range
    if not low < high:
        raise InputError(
            f"value_range: expected (black, white) with black < white, got {value_range}.", topic="own-data"
        )
    if x.min() < low or x.max() > high:
        raise InputError(
            f"X: has numbers from {x.min():g} to {x.max():g}, expected {low:g} to {high:g}; scale them, or give their range "
            "as value_range.",
            topic="own-data",
        )
    return ((x.astype(np.float64) - low) / (high - low)).clip(0, 1)  # beyond them by rounding only


def in_range(x: np.ndarray, dtype: np.dtype, value_range: Any) -> np.ndarray:
    """Numbers in 0..1 as `in_unit_range` took them: bytes, rounded, where `dtype` is that; else floats of `value_range`."""
    if dtype == np.uint8:
        return np.round(255 * x).astype(np.uint8)
    low, high = (0, 1) if dtype == np.bool_ else value_range
    return low + (high - low) * x


def with_axes(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Images [n channel height width] with the axes that the user has."""
    if len(axes) == 3 and axes != images.shape[1:]:
        images = images.transpose(0, 2, 3, 1)
    return images.reshape(len(images), *axes)
