"""Pickles of arrays, read without executing anything in them.

Some data sets were published as pickles. A pickle can name any function to be called, so only the names that numpy arrays
need are allowed, and they do not lead to numpy: what the pickle states about an array is collected and checked here, and
the array is created afterwards. (numpy trusts the state that a pickle sets, and a damaged one can crash the process.)
"""

import io
import math
import pickle
import pickletools
import struct
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice
from typing import Any

import numpy as np

from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short

_MOST_AXES = 8
_MOST_STEPS = 1_000_000
"""A batch of CIFAR-10, whose labels and file names are lists, has about 60,000."""
_NUMBERS = {"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"}
_NEEDLESS = (
    *(pickle.DUP, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8, pickle.NEXT_BUFFER),
    *(pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID, pickle.INST),
    *(pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
)
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
"""Errors that an unpickler raises for bytes that are not a pickle, or are a damaged one."""


def _refuse(unpickler: object) -> None:
    raise pickle.UnpicklingError("it does more than arrays need")


class _Memory(dict[int, Any]):
    """The memo of a pickle, which must not return tuples: a tuple that nests one twice, and so on, takes forever to
    hash."""

    def __getitem__(self, place: int) -> Any:
        value = super().__getitem__(place)
        if isinstance(value, tuple):
            raise pickle.UnpicklingError("it recalls a tuple")
        return value


class ArraysOnly(pickle._Unpickler):
    """Unpickles containers of arrays, each as a `StoredArray`, and rejects every name and opcode that arrays do not need.

    Uses the unpickler written in Python: the one in C trusts a memo index, or a length, and allocates the memory for it.
    """

    dispatch = pickle._Unpickler.dispatch | {step[0]: _refuse for step in _NEEDLESS}

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")
        self.memo = _Memory()

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """Returns the stand-in for that name; raises `pickle.UnpicklingError` for any other name."""
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
        if (
            len(lengths) > _MOST_AXES
            or min(lengths, default=0) < 0
            or math.prod(lengths) * kind.dtype.itemsize != len(content)
        ):
            raise pickle.UnpicklingError(f"{len(content)} bytes do not fit an array of shape {lengths[:_MOST_AXES]}")
        flat = np.frombuffer(content, kind.dtype)
        self.array = flat.reshape(lengths, order="F" if in_columns else "C").copy()


def unpickle_arrays(content: bytes, where: str) -> object:
    """Returns what the pickle `content` holds: containers of arrays, numbers and strings; `where` is for messages.

    Raises `InputError` if it is damaged or names more than arrays need. Strings of Python 2 are read as latin-1.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd text in a damaged pickle
            _count_steps(content)
            held = ArraysOnly(io.BytesIO(content)).load()
            return _with_arrays(held, iter(range(len(content))))
    except _BROKEN as error:
        raise InputError(
            f"{where} cannot be read as a pickle of arrays ({in_short(error)}).", topic="downloads"
        ) from error


def _count_steps(content: bytes) -> None:
    """Raises `ValueError` for more opcodes than arrays need: each takes one byte, and makes an object of up to a hundred."""
    steps = count()
    with suppress(Exception):  # what is damaged is told by the unpickler
        deque(zip(islice(pickletools.genops(content), _MOST_STEPS + 1), steps, strict=False), maxlen=0)
    if next(steps) > _MOST_STEPS:
        raise ValueError(f"it has more than {_MOST_STEPS:,} steps")


def _with_arrays(held: object, more: Iterator[int]) -> object:
    """Returns `held` with arrays in place of stored arrays; `more` is as long as its pickle.

    A value that is held twice by one that is held twice, and so on, is short to write and endless to traverse.
    """
    if next(more, None) is None:
        raise ValueError("it holds the same values over and over")
    if isinstance(held, StoredArray):
        return held.array
    if isinstance(held, list | tuple):
        return type(held)([_with_arrays(part, more) for part in held])
    if isinstance(held, dict):
        return {key: _with_arrays(part, more) for key, part in held.items()}
    return held
