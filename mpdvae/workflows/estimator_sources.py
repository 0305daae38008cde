"""Images for the estimator that are no array of numbers: pictures, files, folders, data sets, and columns of these.

`fit` reads them as they look, as levels: what the model is to take is not known yet. Later they are prepared as the images in
`fit` were (`mpdvae.data.given_images`).
"""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpdvae.data.array_file import mapped_array
from mpdvae.data.given_dataset import DatasetSource, holds_pictures, is_dataset, is_picture, refuse_unnumbered
from mpdvae.data.given_lists import beside_labels, holds_items
from mpdvae.data.image_folder import picture_folder
from mpdvae.data.npz import read_npz
from mpdvae.data.own import own_path
from mpdvae.data.picture_file import pictures_in
from mpdvae.data.picture_source import PictureSource
from mpdvae.data.preparation import Bits, Preparation
from mpdvae.errors import InputError


def unpacked(X: Any, bits: Bits) -> Any:
    """Returns a column of images, in a table or an array of objects, as a list; a sparse tensor as a dense one; a picture as
    a list of one; an archive or a file of an array as the array, levels of so many bits or numbers; images beside their
    labels without these; anything else as it is. Raises `InputError` for such a file that cannot be used."""
    if is_picture(X):
        return [X]
    if (both := beside_labels(X)) is not None:
        return both.images
    if isinstance(X, memoryview):
        return np.asarray(X)
    if isinstance(X, str | bytes | os.PathLike):
        return _array_in(own_path(os.fsdecode(X)), bits)
    if isinstance(X, torch.Tensor):
        return X if X.layout == torch.strided else X.to_dense()
    shape = tuple(getattr(X, "shape", ()))
    if not hasattr(X, "__array__") or 0 in shape or not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        return X
    column = np.asarray(X).reshape(-1)
    packed = column.dtype.kind in "OUS" and (isinstance(column[0], str | bytes) or not np.isscalar(column[0]))
    return column.tolist() if packed else X


def holds_no_numbers(X: Any) -> bool:
    """Returns whether X, `unpacked`, is a path, a data set or the list of its items, or a list with paths or pictures. Raises
    `InputError` for a stream of images, or a dictionary of them."""
    if hasattr(X, "__array__") or hasattr(X, "tocsr"):  # scikit-learn says what to do with a sparse matrix
        return False
    if isinstance(X, os.PathLike) or holds_pictures(X) or holds_items(X) or _holds_paths(X):
        return True
    refuse_unnumbered(X, "X")
    return is_dataset(X)


def read_levels(X: Any, preparation: Preparation) -> np.ndarray:
    """Returns the images of X, which `holds_no_numbers`, as levels [n channel height width]. Warns of files in a folder that
    are no pictures.

    Raises:
        InputError: if a file cannot be used, or the images differ in shape; names it.
    """
    if isinstance(X, Path) and X.is_dir():
        found = picture_folder(X)
        if found.omission:
            warnings.warn(f"{X}: {found.omission}", stacklevel=4)
        return PictureSource(found.pictures, preparation).read_all()
    if isinstance(X, Path) or _holds_paths(X):
        paths = [X] if isinstance(X, Path) else [_path(item, f"X[{i}]") for i, item in enumerate(X)]
        return PictureSource([picture for path in paths for picture in pictures_in(path)], preparation).read_all()
    source = DatasetSource(X, preparation, where="X")
    return source.read(np.arange(len(source)))


def _holds_paths(X: Any) -> bool:
    return isinstance(X, list | tuple) and any(isinstance(item, str | bytes | os.PathLike) for item in X)


def _path(item: Any, where: str) -> Path:
    """Returns the path of a picture."""
    if not isinstance(item, str | bytes | os.PathLike):
        raise InputError(
            f"{where}: expected the path of a picture, as others in the list, got a {type(item).__name__}; give all as "
            "paths, or read all before.",
            topic="own-data",
        )
    return _existing(own_path(os.fsdecode(item)), where)


def _existing(path: Path, where: str) -> Path:
    if not path.exists():
        raise InputError(
            f"{where}: {path} does not exist; give images in an array, a folder of pictures, or files of pictures.",
            topic="own-data",
        )
    return path


def _array_in(path: Path, bits: Bits) -> np.ndarray | Path:
    """Returns the array in a file, and the path of anything else."""
    suffix = _existing(path, "X").suffix.lower()
    if path.is_dir() or suffix not in (".npy", ".npz"):
        return path
    if suffix == ".npy":
        return mapped_array(path)
    parts = read_npz(path, bits)
    if "all" not in parts:
        raise InputError(
            f"X: expected an archive of images that are not split, got {path}, which holds x_train and x_test; give one of "
            "them, numpy.load(path)['x_train'].",
            topic="own-data",
        )
    return parts["all"].pixels.numpy()
