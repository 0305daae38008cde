"""Own images from a numpy archive (`numpy.savez`).

    x                   all images, or
    x_train, x_test     already divided
    y, y_train, y_test  their labels, integers, optional

Images are [n height width], [n channel height width] or [n height width channel] with 1 or 3 channels; bytes 0..255,
floats 0..1 or booleans. Nothing is guessed: what does not fit is refused by one sentence that says what was found.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from mpdvae.data.arrays import channels_first, grey_levels
from mpdvae.data.images import Images
from mpdvae.errors import InputError

_KEYS = {"x", "y", "x_train", "y_train", "x_test", "y_test"}


def read_npz(path: Path) -> dict[str, Images]:
    """The images in `path`: under "all", or under "train" and "test". Raises `InputError` if they cannot be used."""
    arrays = _read_arrays(path)
    if "x" in arrays and "x_train" in arrays:
        raise InputError(f"{path} holds both x and x_train: give x alone, or x_train with x_test")
    if "x_test" in arrays and "x_train" not in arrays:
        raise InputError(f"{path} holds x_test but no x_train")
    if "x" in arrays:
        return {"all": _images(arrays, "x", "y", path)}
    if "x_train" not in arrays:
        raise InputError(f"{path} holds no images: expected an array x, or x_train and x_test; found {sorted(arrays)}")
    if "x_test" not in arrays:
        return {"all": _images(arrays, "x_train", "y_train", path)}
    if ("y_train" in arrays) != ("y_test" in arrays):
        there, absent = ("y_train", "y_test") if "y_train" in arrays else ("y_test", "y_train")
        raise InputError(f"{path} holds labels {there}, but {absent} is missing: give both or none")
    return {part: _images(arrays, f"x_{part}", f"y_{part}", path) for part in ("train", "test")}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as stream:  # numpy leaves a file open that it cannot read
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} holds a single array: save it by numpy.savez(path, x=...)")
            with archive:
                return {key: archive[key] for key in archive.files if key in _KEYS}
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} claims to hold more than fits into memory") from error
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read as a numpy archive, it may be truncated: {error}") from error


def _images(arrays: dict[str, np.ndarray], key: str, label_key: str, path: Path) -> Images:
    where = f"{key} in {path}"
    pixels = channels_first(grey_levels(arrays[key], where), where)
    labels = arrays.get(label_key)
    if labels is None:
        return Images(pixels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{label_key} in {path} must be one integer per image, but it is {labels.dtype} of shape {labels.shape}"
        )
    if len(labels) != len(pixels):
        raise InputError(
            f"labels are missing: {path} holds {len(pixels)} images in {key}, {len(labels)} in {label_key}"
        )
    return Images(pixels, torch.from_numpy(labels.astype(np.int64)))
