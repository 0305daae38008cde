"""Lists of images with what belongs to them, told from lists of images alone.

    [(image, label), ...]      the items of a stream, list(stream): a data set in memory
    [{"image": image}, ...]    the same, as Hugging Face has them
    (images, labels)           two arrays of one length
    a column of a table        pictures, arrays or paths

An image has two axes or three, several have three or four; a label has one at the most.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from mpdvae.data.given_dataset import is_picture
from mpdvae.data.labels import column_of
from mpdvae.errors import InputError


class BesideLabels(NamedTuple):
    """Images and their labels in two arrays."""

    images: Any
    labels: Any


def holds_items(x: Any) -> bool:
    """Returns whether `x` is a list of pairs of image and label, or of dictionaries, as a data set gives them."""
    return isinstance(x, list | tuple) and len(x) > 0 and all(map(_is_item, x))


def beside_labels(x: Any) -> BesideLabels | None:
    """Returns an array of images and one of labels; None if `x` is anything else. Raises `InputError` if they differ in
    length."""
    if not isinstance(x, list | tuple) or len(x) != 2 or not isinstance(x[0], np.ndarray | Tensor) or x[0].ndim < 3:
        return None
    axes = _axes(x[1])
    if axes != 1 and not (axes == 2 and len(x[1]) == len(x[0]) and column_of(x[1], "labels").ndim == 1):
        return None  # another image, perhaps
    if len(x[0]) != len(x[1]):
        raise InputError(
            f"labels: expected one for each of {len(x[0]):,} images, got {len(x[1]):,}; give the label of each image.",
            topic="own-data",
        )
    return BesideLabels(*x)


def listed_column(x: Any) -> Any:
    """Returns a column of pictures, arrays or paths as a list of them, and anything else as it is."""
    if not hasattr(x, "__array__") or isinstance(x, Tensor) or is_picture(x) or getattr(x, "ndim", 0) != 1:
        return x
    if getattr(getattr(x, "dtype", None), "kind", "O") not in "OUT":
        return x
    values = list(np.asarray(x))
    held = str | os.PathLike | np.ndarray | Tensor
    return values if values and all(isinstance(value, held) or is_picture(value) for value in values) else x


def _is_item(item: Any) -> bool:
    if isinstance(item, Mapping):
        return True
    if not isinstance(item, list | tuple) or len(item) < 2:
        return False
    return _axes(item[0]) >= 2 and _axes(item[1]) < 2


def _axes(x: Any) -> int:
    """Returns the number of axes of a picture, an array, or nested lists, told by the first of each."""
    if is_picture(x):
        return 2
    axes = getattr(x, "ndim", None)
    if isinstance(axes, int):
        return axes
    return 1 + (_axes(x[0]) if x else 0) if isinstance(x, list | tuple) else 0
