"""Labels in the forms in which they are at hand, as numbers of classes.

integers    [n] or [n 1]     as they are; booleans are 0 and 1
names       [n] or [n 1]     numbered in the order of the names that occur
one-hot     [n classes]      the place of the one
"""

from collections.abc import Mapping

import numpy as np
import torch

from mpdvae.data.class_names import Classes, ClassNames
from mpdvae.errors import InputError
from mpdvae.system.untrusted_text import encodable


def class_numbers(labels: Mapping[str, np.ndarray]) -> list[Classes]:
    """Returns the classes in each of several arrays that share their numbers and names, each under the name by which errors
    call it. Raises `InputError` for an array of another form."""
    columns, called = {where: _column(array, where) for where, array in labels.items()}, ClassNames()
    if any(column.dtype.kind in "US" for column in columns.values()):
        names = {where: _names(column) for where, column in columns.items()}
        known = np.unique(np.concatenate(list(names.values())))
        columns = {where: np.searchsorted(known, column) for where, column in names.items()}
        called = tuple(map(encodable, known.tolist()))
    return [Classes(torch.from_numpy(column.astype(np.int64)), called) for column in columns.values()]


def _column(labels: np.ndarray, where: str) -> np.ndarray:
    """Returns integers or names [n]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1 and labels.dtype.kind in "biuUS":
        return labels
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and _is_one_hot(labels):
        return labels.argmax(axis=1)
    raise InputError(
        f"{where} must be one integer per image, or one name, or a one-hot row, but it is {labels.dtype} of shape "
        f"{labels.shape}.",
        topic="own-data",
    )


def _is_one_hot(rows: np.ndarray) -> bool:
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all())


def _names(column: np.ndarray) -> np.ndarray:
    return np.char.decode(column, "latin-1") if column.dtype.kind == "S" else column.astype(str)
