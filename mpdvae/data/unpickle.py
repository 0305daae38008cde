"""Pickles of arrays, read without running anything that is in them.

Some data sets were published as pickles. A pickle can name any function to be called, so only the names that numpy's
arrays need are let through, and every other one is refused.
"""

import io
import pickle
import struct

import numpy as np

from mpdvae.errors import InputError

BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    ImportError,
    struct.error,
)
"""What an unpickler raises for bytes that are no pickle, or for one that was tampered with."""


class ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and containers of them, and refuses every other name."""

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """The object of that name, if arrays need it; raises `pickle.UnpicklingError` else."""
        # numpy's private function moved between its versions, so it is taken from an array, not from its module
        reconstruct = np.empty(0).__reduce__()[0]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
        }
        if (module_name, global_name) not in allowed:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed")
        return allowed[module_name, global_name]


def _dtype(name: str, align: int = 0, copy: int = 0) -> np.dtype:
    """numpy.dtype for old pickles, whose flags are 0 and 1, which numpy deprecates."""
    return np.dtype(name, align=bool(align), copy=bool(copy))


def unpickle_arrays(content: bytes, where: str) -> object:
    """What the pickle `content` holds; `where` is for messages. Raises `InputError` if it is damaged or names more
    than arrays need. Strings of Python 2 are read as latin-1, as its arrays need."""
    try:
        return ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except BROKEN as error:
        raise InputError(f"{where} cannot be read as a pickle of arrays: {error or type(error).__name__}") from error
