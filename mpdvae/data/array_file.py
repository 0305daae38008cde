"""Own images in a numpy array (`numpy.save`), of the shapes and values of `arrays.py`, read a few at a time.

Rows are read from the file rather than from a map of it, whose pages would count as memory of the process.
"""

import math
import tokenize
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from mpdvae.data.arrays import channels_first, grey_levels
from mpdvae.data.files import headers_of_any_age
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short

PIECE = 1 << 24
"""Bytes of the file that are checked at once."""
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)
"""Errors that numpy raises for damaged files."""


class ArraySource:
    """The images of an .npy file, or of an array that is a map of a file (`is_streamed`), prepared."""

    def __init__(self, given: Path | np.memmap, preparation: Preparation = AS_STORED) -> None:
        """Reads the file once. Raises `InputError` if it is damaged, or holds no images."""
        mapped, path = (mapped_array(given), given) if isinstance(given, Path) else (given, Path(given.filename or ""))
        if mapped.ndim not in (3, 4) or mapped.size == 0 or mapped.dtype.kind not in "biuf":
            grey_levels(mapped, str(path))  # raises: that names what is wrong
        if not mapped.flags.c_contiguous:
            raise InputError(
                f"{path} is stored column by column: save numpy.ascontiguousarray(x) instead.", topic="own-data"
            )
        self.path, self.preparation = path, preparation
        self._shape, self._dtype, self._start = mapped.shape, mapped.dtype, _start(mapped)
        del mapped, given
        self._check_values()
        self.image_shape = self.read(np.zeros(1, np.int64)).shape[1:]

    def __len__(self) -> int:
        return self._shape[0]

    def read(self, rows: np.ndarray) -> UInt[np.ndarray, "n channel height width"]:
        """Returns the images with these numbers, in this order."""
        x = self._stored(rows)
        kind = np.uint8 if x.dtype == np.uint8 else self.preparation.dtype
        levels = x.astype(kind) if x.dtype.kind in "iu" else grey_levels(x, str(self.path), self.preparation.bits)
        images = channels_first(levels, str(self.path)).numpy()
        return np.stack([self.preparation.apply(image) for image in images])

    def _check_values(self) -> None:
        """Raises `InputError` for values that are no levels: those of a few images would not tell."""
        count = max(1, PIECE // (math.prod(self._shape[1:]) * self._dtype.itemsize))
        bounds = []
        for start in range(0, len(self), count):
            piece = self._stored(np.arange(start, min(start + count, len(self))))
            if piece.dtype.kind == "f" and np.isnan(piece).any():
                grey_levels(piece, f"{self.path} from image {start} on")
            bounds += [piece.min(), piece.max()]
        grey_levels(np.array(bounds, self._dtype)[None, None], str(self.path), self.preparation.bits)

    def _stored(self, rows: np.ndarray) -> np.ndarray:
        """Returns the images as they are stored."""
        x, size = np.empty((len(rows), *self._shape[1:]), self._dtype), math.prod(self._shape[1:])
        with self.path.open("rb") as file:
            for place, row in enumerate(rows):
                file.seek(self._start + int(row) * size * self._dtype.itemsize)
                if file.readinto(x[place].reshape(-1).view(np.uint8).data) != size * self._dtype.itemsize:
                    raise InputError(f"{self.path} has become shorter while it was read.", topic="own-data")
        return x


def is_streamed(x: object) -> bool:
    """Returns whether `x` is a map of a file whose rows can be read from it: of a part in columns, or one that was changed
    without changing the file, they cannot."""
    return isinstance(x, np.memmap) and bool(x.filename) and x.flags.c_contiguous and x.mode != "c"


def _start(mapped: np.ndarray) -> int:
    """Returns where in its file a mapped array begins. A part of a map has the offset of the whole."""
    whole = mapped
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return getattr(mapped, "offset", 0) + mapped.ctypes.data - whole.ctypes.data


def mapped_array(path: Path) -> np.ndarray:
    """Maps the array into memory: the length that its header claims is then compared with the file before it is read.
    Raises `InputError` if it is damaged."""
    try:
        with headers_of_any_age():
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise InputError(f"{path} cannot be read as a numpy array ({in_short(error)}).", topic="own-data") from error
