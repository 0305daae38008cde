"""Labels in the forms in which they are at hand: one rule, wherever they are given.

integers    [n] or [n 1]     as they are; booleans are 0 and 1, and numbers with a point are integers if all of them are whole
names       [n] or [n 1]     numbered in the order of the names that occur
one-hot     [n classes]      the place of the one

An array, a tensor, a list or a column of a table may hold them. A label that is missing - None, NaN, NA, masked - is refused:
it is no class of its own.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpdvae.data.arrays import plain_array
from mpdvae.data.class_names import Classes, ClassNames
from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import encodable


def class_numbers(labels: Mapping[str, Any]) -> list[Classes]:
    """Returns the classes in each of several arrays that share their numbers and names, each under the name by which errors
    call it. Raises `InputError` for an array of another form."""
    columns, called = {where: _checked(given, where) for where, given in labels.items()}, ClassNames()
    if any(column.dtype.kind == "U" for column in columns.values()):
        names = {where: column.astype(str) for where, column in columns.items()}
        known = np.unique(np.concatenate(list(names.values())))
        columns = {where: np.searchsorted(known, column) for where, column in names.items()}
        called = tuple(map(encodable, known.tolist()))
    return [Classes(torch.from_numpy(column.astype(np.int64)), called) for column in columns.values()]


def column_of(labels: Any, where: str) -> np.ndarray:
    """Returns integers or text [n], or, where a single label is given, []. What is neither is returned as an array, for the
    caller to refuse in its own words. Raises `InputError`, which calls them `where`, for labels of which some are missing,
    and for text among numbers."""
    array = _array(labels, where)
    _refuse_missing(array, where)
    if array.dtype.kind == "O":
        array = _of_objects(array, where)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "latin-1")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf" and _is_one_hot(array):
        return array.argmax(axis=1)
    whole = array.dtype.kind == "b" or (array.dtype.kind == "f" and array.size > 0 and _are_whole(array))
    return array.astype(np.int64) if whole and array.ndim < 2 else array


def _checked(labels: Any, where: str) -> np.ndarray:
    """Returns integers or names [n]."""
    column = column_of(labels, where)
    if column.ndim == 1 and column.dtype.kind in "iuU":
        return column
    if column.dtype.kind == "O":
        raise InputError(
            f"{where} differ in form; give an integer, a name or a one-hot row for each image.", topic="own-data"
        )
    raise InputError(
        f"{where} must be one integer per image, or one name, or a one-hot row, but it is {column.dtype} of shape "
        f"{column.shape}.",
        topic="own-data",
    )


def _array(labels: Any, where: str) -> np.ndarray:
    """Returns labels as an array: those of a list as Python's objects, since numpy makes the text "nan" of NaN."""
    if isinstance(labels, np.ma.MaskedArray):
        objects = np.asarray(labels).astype(object)
        objects[np.ma.getmaskarray(labels)] = None
        return objects
    if isinstance(labels, Tensor):
        return plain_array(labels, where)
    if hasattr(labels, "__array__"):
        return np.asarray(labels)
    if isinstance(labels, list | tuple):
        labels = [_array(label, where).tolist() if hasattr(label, "__array__") else label for label in labels]
    return np.asarray(labels, object)


def _refuse_missing(array: np.ndarray, where: str) -> None:
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fO":
        return
    missing = np.array([_is_missing(label) for label in array.flat]).reshape(len(array), -1).any(1)
    if missing.any():
        raise InputError(
            f"{where}: expected a label for each of {len(array):,} images, got none (None, NaN or NA) for "
            f"{missing.sum():,} of them, the first for image {missing.argmax()}; leave these images out, or give them a "
            "class of their own.",
            topic="conditional",
        )


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):  # of pandas, which is not imported
        return True
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def _of_objects(array: np.ndarray, where: str) -> np.ndarray:
    """Returns text or numbers as an array of these; anything else as it is."""
    others = [label for label in array.flat if not isinstance(label, str | bytes)]
    if not others and array.size:
        text = [label.decode("latin-1") if isinstance(label, bytes) else label for label in array.flat]
        return np.array(text, str).reshape(array.shape)
    if len(others) < array.size:
        raise InputError(
            f"{where}: expected a name for each image, or a number for each, got {in_short(repr(others[0]), 60)} among "
            "names; give one or the other.",
            topic="conditional",
        )
    numbers = array.size and all(isinstance(label, Real | np.bool_) for label in others)
    return np.array(array.tolist()) if numbers else array


def _are_whole(x: np.ndarray) -> bool:
    return bool((np.isfinite(x) & (x == np.round(x)) & (np.abs(x) < 2**53)).all())


def _is_one_hot(rows: np.ndarray) -> bool:
    return rows.size > 0 and bool(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all())
