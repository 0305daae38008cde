"""Pickles of arrays, read without running anything that is in them.

Some data sets were published as pickles. A pickle can name any function to be called, so only the names that arrays of
numpy need are let through, and they do not lead to numpy: what the pickle says about an array is collected and checked
here, and the array made afterwards. (numpy believes the state that a pickle sets, and a damaged one can end the process.)
"""

import io
import math
import pickle
import struct
import warnings
from typing import Any

import numpy as np

from mpdvae.errors import InputError

_NUMBERS = {"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"}
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    MemoryError,
    OverflowError,
    RecursionError,
    SyntaxError,
    struct.error,
)
"""What an unpickler raises for bytes that are no pickle, or for one that is damaged."""


class ArraysOnly(pickle.Unpickler):
    """Unpickles containers of arrays, each as a `StoredArray`, and refuses every name that arrays do not need."""

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """What stands for that name here; raises `pickle.UnpicklingError` for any other."""
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): StoredArray,
            ("numpy._core.multiarray", "_reconstruct"): StoredArray,
            ("numpy", "ndarray"): "numpy.ndarray",  # is passed on to _reconstruct, never called
            ("numpy", "dtype"): StoredType,
        }
        if (module_name, global_name) not in allowed:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed")
        return allowed[module_name, global_name]


class StoredType:
    """A numpy.dtype as a pickle describes it."""

    def __init__(self, name: str, align: int = 0, copy: int = 0) -> None:
        if name not in _NUMBERS:
            raise pickle.UnpicklingError(f"arrays of type {name!r} are not allowed")
        self.name, self.dtype = name, np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = np.dtype({"|": "=", "=": "=", "<": "<", ">": ">"}[state[1]] + self.name)


class StoredArray:
    """A numpy.ndarray as a pickle describes it."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, in_columns, content = state
        if isinstance(content, str):  # bytes of Python 2
            content = content.encode("latin1")
        lengths = tuple(int(length) for length in shape)
        if min(lengths, default=0) < 0 or math.prod(lengths) * kind.dtype.itemsize != len(content):
            raise pickle.UnpicklingError(f"{len(content)} bytes are no array of shape {lengths}")
        flat = np.frombuffer(content, kind.dtype)
        self.array = flat.reshape(lengths, order="F" if in_columns else "C").copy()


def unpickle_arrays(content: bytes, where: str) -> object:
    """What the pickle `content` holds: containers of arrays, numbers and texts; `where` is for messages.

    Raises `InputError` if it is damaged or names more than arrays need. Strings of Python 2 are read as latin-1.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd text in a damaged pickle
            return _with_arrays(ArraysOnly(io.BytesIO(content), encoding="latin1").load())
    except _BROKEN as error:
        raise InputError(f"{where} cannot be read as a pickle of arrays: {error or type(error).__name__}") from error


def _with_arrays(held: object) -> object:
    """`held` with arrays for what was stored."""
    if isinstance(held, StoredArray):
        return held.array
    if isinstance(held, list | tuple):
        return type(held)([_with_arrays(part) for part in held])
    if isinstance(held, dict):
        return {key: _with_arrays(part) for key, part in held.items()}
    return held
