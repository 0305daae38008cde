"""Arrays from MATLAB files (version 5 to 7, as scipy reads them).

A header may claim anything, and packed zeros unpack to any size, so shapes are compared with what is expected before
anything is unpacked, and only the arrays asked for are.
"""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpdvae.errors import InputError

_LARGEST_AXIS = 1 << 20
_BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)


def read_mat(path: Path, shapes: Mapping[str, tuple[int | None, int | None]]) -> dict[str, np.ndarray]:
    """The arrays named in `shapes`, which have the shapes given there (None: any length).

    Raises `InputError` where one is missing, not numeric or of another shape, and for what is no MATLAB file.
    """
    import scipy.io  # an import of a fifth of a second, needed only here
    from scipy.io.matlab import MatReadError

    try:
        with open(path, "rb") as stream:
            found = {name: shape for name, shape, _ in scipy.io.whosmat(stream)}
        _require(found, shapes, path)
        with open(path, "rb") as stream:
            arrays = scipy.io.loadmat(stream, variable_names=list(shapes))
    except InputError:
        raise
    except (*_BROKEN, MatReadError) as error:
        raise InputError(f"{path} cannot be read as a MATLAB file, it may be truncated: {error}") from error
    for name in shapes:
        if not isinstance(arrays.get(name), np.ndarray) or arrays[name].dtype.kind not in "buif":
            raise InputError(f"{name} in {path} is no array of numbers")
    return {name: arrays[name] for name in shapes}


def _require(found: Mapping[str, tuple[int, ...]], shapes: Mapping, path: Path) -> None:
    for name, expected in shapes.items():
        if name not in found:
            raise InputError(f"{path} holds no {name}: expected {sorted(shapes)}, found {sorted(found)}")
        given = found[name]
        fits = len(given) == len(expected) and all(e in (None, g) for g, e in zip(given, expected, strict=True))
        if not fits or max(given) > _LARGEST_AXIS:
            wanted = " x ".join("any" if axis is None else str(axis) for axis in expected)
            raise InputError(f"{name} in {path} is {' x '.join(map(str, given))}, expected {wanted}")


def as_bytes(array: np.ndarray, highest: int, where: str) -> UInt8[np.ndarray, "..."]:
    """Whole numbers 0..highest as bytes. Raises `InputError` for anything else, NaN too."""
    if np.isnan(array).any():
        raise InputError(f"{where} has NaN values, {np.isnan(array).sum()} of {array.size}")
    if array.min(initial=0) < 0 or array.max(initial=0) > highest or (array != np.floor(array)).any():
        raise InputError(f"{where} has values from {array.min():g} to {array.max():g}: expected 0..{highest}, whole")
    return np.ascontiguousarray(array.astype(np.uint8))
